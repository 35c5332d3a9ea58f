"""A spiking layer's whole time loop as one differentiable operation, whatever the neuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fnl.snn.kernels.dynamics import Dynamics

Recorded = tuple[Tensor, Tensor]
"""Spikes per clip and neuron, int32 [B, F], and `lif_numba.lif_forward`'s moments, [6, F]."""


@dataclass(frozen=True)
class Scan:
    """Forward and backward pass of a kind of neuron, with its parameters as rows [F].

    Attributes:
        forward: maps I [B, T, F], the rows and the dynamics, with keywords `save` and `record`,
            to spikes [B, T, F], the membrane to save or None, and statistics or None.
        backward: maps dL/dS, the saved membrane, I or None, the rows and the dynamics, with a
            keyword `learns`, to dL/dI [B, T, F] and the gradients of each clip and row, [B, F].
        keeps_current: whether the gradients of the rows need I.
        overwrites: whether both take a keyword `overwrite`: that the membrane may take the place
            of I, and dL/dI that of dL/dS.
    """

    forward: Callable[..., tuple[Tensor, Tensor | None, Recorded | None]]
    backward: Callable[..., tuple[Tensor, ...]]
    keeps_current: bool = False
    overwrites: bool = False


class ScanFunction(torch.autograd.Function):
    """Spikes of a layer; saves one membrane tensor for its backward, and I where needed."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: Scan,
        current: Tensor,
        dynamics: Dynamics,
        *rows: Tensor,
    ) -> Tensor:
        """Return S [B, T, F] for I [B, T, F] and rows [F]."""
        current, rows = current.contiguous(), tuple(row.contiguous() for row in rows)
        save = any(ctx.needs_input_grad)
        spikes, membrane, _ = kind.forward(current, *rows, dynamics, save=save)
        if membrane is not None:
            needed = kind.keeps_current and any(ctx.needs_input_grad[3:])
            ctx.save_for_backward(membrane, current if needed else None, *rows)
        ctx.kind, ctx.dynamics = kind, dynamics
        return spikes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad_spikes: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of I [B, T, F] and the rows [F]."""
        membrane, current, *rows = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[3:])
        grad_current, *grad_rows = ctx.kind.backward(
            grad_spikes, membrane, current, *rows, ctx.dynamics, learns=learns
        )
        if not learns:
            return None, grad_current, None, *(None for _ in rows)
        return None, grad_current, None, *(gradient.sum(0) for gradient in grad_rows)


def scan(kind: Scan, current: Tensor, rows: tuple[Tensor, ...], dynamics: Dynamics) -> Tensor:
    """Return the spikes of a layer [B, T, F], differentiable once.

    Args:
        kind: the neurons.
        current: I, [B, T, F] with T >= 1.
        rows: the neurons' parameters, [F] each.
        dynamics: reset, its timing, surrogate, backend.
    """
    return ScanFunction.apply(kind, current, dynamics, *rows)  # pyright: ignore[reportReturnType] - `apply` is untyped
