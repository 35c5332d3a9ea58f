"""What the clips of several clients draw, in a batch of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.clip_draws import ClipDraws
from fnl.randomness import Purpose
from fnl.snn.kernels import philox_numba, philox_torch


@dataclass(frozen=True, eq=False)
class ClientDraws:
    """`BatchDraws` of K clients: each clip draws what it draws with its own client alone.

    Attributes:
        clients: who they are and their keys.
        rows: those of each client in the batch, [K, B]; a clip that only fills up draws, too.
        step: as of `BatchDraws`.
        views: V.
        device: where the numbers are made.
    """

    clients: Sequence[ClipDraws]
    rows: NDArray[np.int64]
    step: int
    views: int
    device: torch.device

    def uniform(self, purpose: Purpose, number: int, size: Sequence[int]) -> Tensor:
        """Return numbers as of `BatchDraws`, [K·V·B, *size]."""
        count = math.prod(size)
        ids = [clips.ids[rows] for clips, rows in zip(self.clients, self.rows, strict=True)]
        keys = [clips.keys.key(purpose, number) for clips in self.clients]
        if self.device.type == "cpu":
            shape = len(ids), self.views, self.rows.shape[1], -(-count // 4) * 4
            out = np.empty(shape, np.float32)
            for key, own, of_client in zip(keys, ids, out, strict=True):
                for view, part in enumerate(of_client):
                    column = np.uint64(self.step * self.views + view)
                    philox_numba.uniform(key, own, column, part)
            drawn = torch.from_numpy(out).flatten(0, 2)[:, :count]
        else:
            drawn = self._on_device(keys, ids, count)
        return drawn.reshape(len(drawn), *size)

    def _on_device(
        self, keys: list[np.uint64], ids: list[NDArray[np.uint64]], count: int
    ) -> Tensor:
        each = self.rows.shape[1]
        rows = np.repeat(np.stack(ids)[:, None], self.views, axis=1).reshape(-1)
        columns = self.step * self.views + np.repeat(np.arange(self.views), each)
        of_each = np.repeat(np.array(keys, np.uint64), self.views * each)
        three = np.stack([of_each.view(np.int64), rows.view(np.int64), np.tile(columns, len(ids))])
        moved = torch.from_numpy(three).to(self.device, non_blocking=True)
        return philox_torch.uniform(moved[0], moved[1], moved[2], count)
