"""The noise of K clients' steps: the numbers that each client draws alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fnl.privacy.noise import SecureNoise, drawn_together, fill_normal

if TYPE_CHECKING:
    from fnl.training.batched.training import ClientTraining


class StepNoise:
    """Noise in the order in which Opacus' optimizers draw it, parameter by parameter.

    Every client has a generator of the processor; a device is sent what it drew.

    Args:
        clients: whose sources it comes from.
        parameters: the trained ones.
        device: where it is wanted.
    """

    def __init__(
        self,
        clients: Sequence[ClientTraining],
        parameters: Sequence[nn.Parameter],
        device: torch.device,
    ) -> None:
        self._clients, self._device = clients, device
        self._sizes = drawn_together([parameter.numel() for parameter in parameters])
        multipliers = [
            c.mechanism.gradient_noise(c.expected_batch) if c.mechanism else 0.0 for c in clients
        ]
        self._multipliers = torch.tensor(multipliers).unsqueeze(1).to(device)
        self._silent = not any(multipliers)

    def add(self, sums: Tensor, bounds: Tensor) -> None:
        """Add noise of σ·C to the first clients' sums, [k, numbers], in place.

        Args:
            sums: of clipped gradients.
            bounds: C, [k, 1].
        """
        if self._silent:
            return
        secure = isinstance(self._clients[0].noise, SecureNoise)
        noise = torch.empty(sums.shape, dtype=torch.float64 if secure else sums.dtype)
        for client, row in zip(self._clients, noise, strict=False):
            fill_normal(row.split(self._sizes), 1.0, client.noise)
        moved = noise.to(self._device, non_blocking=True)
        sums.copy_(sums + moved * (self._multipliers[: len(sums)] * bounds))
