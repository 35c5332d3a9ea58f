"""Dropout whose masks belong to the clips."""

from __future__ import annotations

from torch import Tensor, nn

from fnl.clip_draws import Draws
from fnl.randomness import Purpose


class Dropout(nn.Module):
    """Drop each value with probability p in training and scale the rest by 1 / (1 − p).

    Unlike with `nn.Dropout` a clip's mask is its own, whatever else is in the mini-batch; it is the
    same on every engine, with any number of workers, and in a run that differs in privacy alone
    (Srivastava et al. 2014, in today's inverted form).

    Args:
        probability: p in [0, 1).

    Attributes:
        draws: what the clips of the mini-batch draw; needed in training unless p = 0.
        number: of the layer within its network; `set_draws` counts.
        amplitude: of what is sent on, dropped or not: of spikes in steps of another length.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws: Draws | None = None
        self.number = 0
        self.amplitude = 1.0

    def forward(self, signal: Tensor) -> Tensor:
        """Return `signal`, of any shape [B, …], with values dropped.

        Raises:
            RuntimeError: in training without draws.
        """
        return signal * self.mask(signal) if self.changes() else signal

    def changes(self) -> bool:
        """Return whether anything is dropped or scaled."""
        return self.amplitude != 1 or (self.training and self.probability > 0)

    def mask(self, signal: Tensor) -> Tensor | float:
        """Return what `signal` is multiplied by: the amplitude, where it drops 0 or 1 / (1 − p).

        Raises:
            RuntimeError: without draws.
        """
        if not (self.training and self.probability > 0):
            return self.amplitude
        if self.draws is None:
            raise RuntimeError("dropout has nothing to draw from: call set_draws before training")
        drawn = self.draws.uniform(Purpose.DROPOUT, self.number, signal.shape[1:])
        mask = (drawn >= self.probability).to(signal) / (1 - self.probability)
        return mask if self.amplitude == 1 else mask * self.amplitude

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"probability={self.probability}"
