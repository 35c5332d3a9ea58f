"""Dropout whose masks come from a named stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Drop each value with probability p in training and scale the rest by 1 / (1 − p).

    Unlike `nn.Dropout` it draws from a generator of its own, so that the masks of a client's
    round are the same on every engine, with any number of workers, and in a run that differs in
    privacy alone (Srivastava et al. 2014, in today's inverted form).

    Args:
        probability: p in [0, 1).

    Attributes:
        stream: the generator of the masks; needed in training unless p = 0.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.stream: torch.Generator | None = None

    def forward(self, signal: Tensor) -> Tensor:
        """Return `signal`, of any shape, with values dropped.

        Raises:
            RuntimeError: in training without a stream.
        """
        return signal * self.mask(signal) if self.drops() else signal

    def drops(self) -> bool:
        """Return whether anything is dropped."""
        return self.training and self.probability > 0

    def mask(self, signal: Tensor) -> Tensor:
        """Return what `signal` is multiplied by where something is dropped: 0 or 1 / (1 − p).

        Raises:
            RuntimeError: without a stream.
        """
        if self.stream is None:
            raise RuntimeError("dropout has no random stream: call set_streams before training")
        drawn = torch.rand(signal.shape, generator=self.stream, dtype=torch.float32)
        return (drawn >= self.probability).to(signal) / (1 - self.probability)

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"probability={self.probability}"
