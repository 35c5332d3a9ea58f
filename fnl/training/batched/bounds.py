"""The clipping norms of K clients, fixed or following a quantile, without asking a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fnl.privacy.noise import normal_tensor
from fnl.training.adaptive_clipping import LARGEST, LEAST, SplitNoise

if TYPE_CHECKING:
    from fnl.training.batched.training import ClientTraining


class Bounds:
    """C of each client, moved as `AdaptiveBound` moves one.

    Args:
        clients: all private or none.
        device: where the bounds are.
    """

    def __init__(self, clients: Sequence[ClientTraining], device: torch.device) -> None:
        self._clients = clients
        mechanisms = [client.mechanism for client in clients]
        starts = [mechanism.clip_norm if mechanism else 0.0 for mechanism in mechanisms]
        self._values = torch.tensor(starts, dtype=torch.float64).to(device)
        first = mechanisms[0]
        self._adaptive = first if first is not None and first.clipping == "adaptive" else None
        expected = [client.expected_batch for client in clients]
        self._expected = torch.tensor(expected, dtype=torch.float64).to(device)
        self._count_noise = [
            SplitNoise.of(mechanism.noise_multiplier, batch).count if mechanism else 0.0
            for mechanism, batch in zip(mechanisms, expected, strict=True)
        ]

    def of(self, clients: int) -> Tensor:
        """Return C of the first clients, float32 [k, 1]."""
        return self._values[:clients, None].float()

    def values(self) -> list[float]:
        """Return C of each client."""
        return self._values.tolist()

    def update(self, norms: Tensor | None, valid: Tensor | None, clients: int) -> None:
        """Move the bounds of the first clients by a step's norms [k, B] of the clips drawn."""
        if self._adaptive is None:
            return
        values = self._values[:clients]
        count = torch.zeros_like(values)
        if norms is not None and valid is not None:
            below = (norms <= values.unsqueeze(1)) & valid
            count = below.double().sum(1) - 0.5 * valid.double().sum(1)
        drawn = [
            normal_tensor(client.noise, std, (1,))
            for client, std in zip(self._clients[:clients], self._count_noise, strict=False)
        ]
        count = count + torch.cat(drawn).to(values.device, non_blocking=True)
        share = count / self._expected[:clients] + 0.5
        rate, quantile = self._adaptive.clip_learning_rate, self._adaptive.clip_quantile
        step = (-rate * (share - quantile)).clamp(max=math.log(LARGEST / LEAST))
        values.copy_((values * step.exp()).clamp(LEAST, LARGEST))
