"""A read-out that is given the spikes of all layers, in a network that stays a chain.

A `Tap` after a layer lets its spikes through and keeps them until the `Gathering` before the
read-out takes them up. On the way back the gathering leaves each tap its share of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Gone = tuple[Tensor, dict[nn.Parameter, Tensor]]
"""Of the way back: the gradient of the input, and those of parameters, of which there are none."""


class Tap(nn.Module):
    """Spikes [B, T, F] -> the same, kept for the gathering behind.

    What it keeps is of one pass' clips: no copy and no file of the network has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None
        self.share: Tensor | None = None
        self.goes_back = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None, "share": None, "goes_back": False}

    def taken(self) -> Tensor:
        """Return the spikes that were kept, and keep them no longer.

        Raises:
            RuntimeError: if none passed since they were last taken.
        """
        kept, self.kept = self.kept, None
        if kept is None:
            raise RuntimeError("spikes are gathered from a layer that has not run")
        return kept

    def forward(self, spikes: Tensor) -> Tensor:
        """Return `spikes`."""
        self.kept, self.share, self.goes_back = spikes, None, False
        return spikes

    def forward_and_back(
        self, spikes: Tensor, *, overwrite: bool = False
    ) -> tuple[Tensor, Callable[[Tensor], Gone]]:
        """Return spikes, and a function from their gradient behind here to that before it."""
        self.kept = spikes.clone() if overwrite else spikes  # who comes next may overwrite them
        self.share, self.goes_back = None, True

        def back(grad: Tensor) -> Gone:
            share, self.share = self.share, None
            return (grad if share is None else grad + share), {}

        return spikes, back


class Gathering(nn.Module):
    """Spikes of the last layer [B, T, F_L] -> those of all layers [B, T, F_1 + … + F_L].

    Args:
        taps: of the layers before the last, in order.
    """

    def __init__(self, taps: nn.ModuleList) -> None:
        super().__init__()
        self._taps = [tap for tap in taps if isinstance(tap, Tap)]

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the spikes of all layers, the first ones first."""
        return torch.cat([*(tap.taken() for tap in self._taps), spikes], dim=2)

    def forward_and_back(
        self,
        spikes: Tensor,
        *,
        overwrite: bool = False,  # noqa: ARG002 - the interface's; nothing is gained here
    ) -> tuple[Tensor, Callable[[Tensor], Gone]]:
        """Return the spikes of all layers, and a function from their gradient to the last one's."""
        layers = [*(tap.taken() for tap in self._taps), spikes]
        sizes = [layer.shape[2] for layer in layers]

        def back(grad: Tensor) -> Gone:
            *shares, last = grad.split(sizes, dim=2)
            for tap, share in zip(self._taps, shares, strict=True):
                tap.share = share if tap.goes_back else None  # else nobody comes for it
            return last.contiguous(), {}

        return torch.cat(layers, dim=2), back
