"""Random numbers that belong to a clip, whatever else is in its mini-batch.

DP-SGD bounds what one clip adds to a sum. That bounds what the *presence* of the clip changes only
if all others add the same with and without it: no dropout mask, augmentation or encoding may
depend on who else is there, or on a place in the mini-batch. So every number here is a pure
function of a key, the clip, the step and its own index (`philox_numba.uniform`).

A clip is told by its features (`clip_ids`), not by its row, which changes when a clip before it is
removed. Two clips that are alike to the last bit draw alike, each for itself: the bound holds.
The guarantee holds for any key, so a key hides nothing; it decides who can draw the numbers again.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.randomness import Purpose, stream
from fnl.snn.kernels import philox_torch
from fnl.snn.kernels.philox_numba import uniform


@dataclass(frozen=True)
class DrawKeys:
    """The keys of what clips draw, one for each purpose and number of a drawing layer.

    Attributes:
        entropy: a seed, or bits of the operating system.
        path: coordinates of the streams under a seed, usually (round, partition).
    """

    entropy: int = field(repr=False)
    path: tuple[int, ...] = ()

    @classmethod
    def seeded(cls, seed: int, *path: int) -> DrawKeys:
        """Return the keys of named streams: the same wherever and whenever they are asked for."""
        return cls(seed, path)

    @classmethod
    def secure(cls) -> DrawKeys:
        """Return keys from the operating system, which nobody can derive again."""
        return cls(secrets.randbits(128))

    def key(self, purpose: Purpose, number: int) -> np.uint64:
        """Return one 64-bit key."""
        return _key(self.entropy, purpose, (*self.path, number))

    def of(self, clips: Tensor) -> ClipDraws:
        """Return what clips [n, T, F] draw."""
        return ClipDraws(self, clips)


@dataclass(frozen=True, eq=False)
class ClipDraws:
    """What the clips of a party draw.

    Attributes:
        keys: of the streams.
        clips: features [n, T, F]. Who they are is computed when first needed.
    """

    keys: DrawKeys
    clips: Tensor

    @cached_property
    def ids(self) -> NDArray[np.uint64]:
        """The names of the clips, [n]."""
        return clip_ids(self.clips)

    def batch(self, rows: Sequence[int] | slice, step: int, views: int = 1) -> BatchDraws:
        """Return what `views` views of the clips of some rows draw in one step."""
        return BatchDraws(self, rows, step, views)


class Draws(Protocol):
    """What the clips of a batch draw, whoever they belong to."""

    def uniform(self, purpose: Purpose, number: int, size: Sequence[int]) -> Tensor:
        """Return uniform numbers of each clip, as `BatchDraws.uniform` says."""
        ...


@dataclass(frozen=True, eq=False)
class BatchDraws:
    """What the clips of a mini-batch draw in one step, each for itself.

    Attributes:
        clips: of all clips.
        rows: those in the mini-batch, B.
        step: below 2^32 / `views`; another step is another draw.
        views: K; each is another draw.
    """

    clips: ClipDraws
    rows: Sequence[int] | slice
    step: int
    views: int = 1

    @property
    def ids(self) -> NDArray[np.uint64]:
        """The names of the clips of the mini-batch, [B]."""
        return self.clips.ids[self.rows]

    def only(self, places: Sequence[int]) -> Draws:
        """Return what is drawn at some places of the mini-batch, of K·B: view by view."""
        count = len(self.clips.clips)
        rows = range(count)[self.rows] if isinstance(self.rows, slice) else self.rows
        views = groupby(places, lambda place: place // len(rows))
        parts = [
            BatchDraws(
                self.clips, [rows[place % len(rows)] for place in of_view], self.step_of(view)
            )
            for view, of_view in views
        ]
        if len(parts) > 1:
            return _Joined(parts)
        return parts[0] if parts else BatchDraws(self.clips, [], self.step)

    def step_of(self, view: int) -> int:
        """Return the step in which a batch of one view draws what this one does in that view."""
        return self.step * self.views + view

    def uniform(self, purpose: Purpose, number: int, size: Sequence[int]) -> Tensor:
        """Return independent uniform numbers in [0, 1), multiples of 2^-24, float32 [K·B, *size].

        The first B are of the clips' first view, and so on.

        Args:
            purpose: what they decide.
            number: of the drawing layer, or of the draw, within the purpose.
            size: how many of them a clip draws.
        """
        ids, count = self.ids, math.prod(size)
        if (device := self.clips.clips.device).type != "cpu":
            return self._on_device(device, purpose, number, size)
        out = np.empty((self.views * len(ids), -(-count // 4) * 4), np.float32)
        key = self.clips.keys.key(purpose, number)
        for view in range(self.views):
            part = out[view * len(ids) : (view + 1) * len(ids)]
            uniform(key, ids, np.uint64(self.step_of(view)), part)
        return torch.from_numpy(out)[:, :count].reshape(len(out), *size)

    def _on_device(
        self, device: torch.device, purpose: Purpose, number: int, size: Sequence[int]
    ) -> Tensor:
        """Do `uniform` on the clips' device."""
        rows = torch.from_numpy(np.tile(self.ids, self.views).view(np.int64)).to(device)
        key = torch.tensor(self.clips.keys.key(purpose, number).view(np.int64)).to(device)
        views = torch.arange(self.views, device=device).repeat_interleave(len(self.ids))
        drawn = philox_torch.uniform(
            key.expand(len(rows)), rows, self.step * self.views + views, math.prod(size)
        )
        return drawn.reshape(len(rows), *size)


@dataclass(frozen=True)
class _Joined:
    """What the clips of several mini-batches draw, one behind the other."""

    parts: Sequence[Draws]

    def uniform(self, purpose: Purpose, number: int, size: Sequence[int]) -> Tensor:
        return torch.cat([part.uniform(purpose, number, size) for part in self.parts])


def clip_ids(clips: Tensor) -> NDArray[np.uint64]:
    """Return a 64-bit hash of the features of each clip, as float32, [n] for [n, T, F]."""
    hashes = (blake2b(clip.numpy().tobytes(), digest_size=8) for clip in clips.float().cpu())
    return np.array([int.from_bytes(one.digest()) for one in hashes], dtype=np.uint64)


@lru_cache(maxsize=1024)  # a key takes as long to derive as a small layer's numbers to draw
def _key(entropy: int, purpose: Purpose, path: tuple[int, ...]) -> np.uint64:
    return stream(entropy, purpose, *path).integers(0, 2**64, dtype=np.uint64)
