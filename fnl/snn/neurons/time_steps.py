"""Neurons in steps of another length than their parameters are of.

A decay of β a step is β^ρ in steps ρ times as long: the time constant keeps its milliseconds. An
integrator that takes its input whole has a steady state of 1/(1 − β) times a constant input, so
that its input is multiplied by (1 − β^ρ)/(1 − β). A spike is a spike however long its step is, and
there are ρ times as many in one.

Parameters stay those of the server's steps, and so do their gradients: what is clipped, noised,
sent and averaged is the same everywhere, and nothing has to be converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SLOW = 1e-6
"""A leak per step below which a gain is ρ, to float32."""


def decay_in(log_decay: Tensor, ratio: float) -> Tensor:
    """Return β^ρ of ln β."""
    return torch.exp(ratio * log_decay)


def gain_in(log_decay: Tensor, ratio: float) -> Tensor:
    """Return (1 − β^ρ)/(1 − β) of ln β: what keeps an integrator's steady state."""
    slow = log_decay > -_SLOW
    leaking = torch.where(slow, -1.0, log_decay)
    gain = torch.expm1(ratio * leaking) / torch.expm1(leaking)
    return torch.where(slow, ratio, gain)


@dataclass(frozen=True)
class Timed:
    """A layer's values in its own steps, with what they come of.

    Attributes:
        rows: what the equations use, by name, each [F].
        gain: what the current is multiplied by, [F]; None for nothing.
        parameters: that rows and gain are functions of, neuron by neuron, by name, each [F].
    """

    rows: Mapping[str, Tensor]
    gain: Tensor | None
    parameters: Mapping[str, Tensor]

    def back(self, of_rows: Sequence[Tensor], of_gain: Tensor | None) -> dict[str, Tensor]:
        """Return dL/dp of each clip and neuron, [B, F], of the parameters that are trained.

        Args:
            of_rows: dL/d of each row, in their order, [B, F].
            of_gain: dL/d gain, [B, F]; None for nothing.
        """
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        found = {name: torch.zeros_like(of_rows[0]) for name in trained}
        values = [*self.rows.values(), *([] if self.gain is None else [self.gain])]
        grads = [*of_rows, *([] if of_gain is None else [of_gain])]
        for value, grad in zip(values, grads, strict=True):
            if not value.requires_grad:
                continue
            slopes = torch.autograd.grad(
                value,
                list(trained.values()),
                torch.ones_like(value),
                retain_graph=True,
                allow_unused=True,
            )
            for name, slope in zip(trained, slopes, strict=True):
                if slope is not None:
                    found[name] += grad * slope
        return found
