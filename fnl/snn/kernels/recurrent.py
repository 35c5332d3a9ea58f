"""Recurrent leaky integrate-and-fire over time as one differentiable operation."""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fnl.snn.kernels import recurrent_numba, recurrent_torch
from fnl.snn.kernels.dynamics import Dynamics, uses_numba
from fnl.snn.kernels.lif import surrogate_arguments
from fnl.snn.kernels.lif_torch import above, moments
from fnl.snn.kernels.scan import Recorded


def recurrent_forward(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    weight: Tensor,
    bias: Tensor,
    dynamics: Dynamics,
    *,
    save: bool = False,
    record: bool = False,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Step every neuron of every clip through time, spikes fed back to all neurons.

    Args:
        current: I, contiguous [B, T, F] with T >= 1.
        beta: decay per step, contiguous [F].
        threshold: θ, contiguous [F].
        weight: recurrent weights, contiguous [F to, F from].
        bias: added to the recurrent input at every step, contiguous [F].
        dynamics: reset, its timing, backend.
        save: whether to return the membrane that `recurrent_backward` needs.
        record: whether to return statistics.

    Returns:
        Spikes [B, T, F]; the membrane compared with θ [B, T, F] or None; statistics or None.
    """
    if not uses_numba(dynamics.backend, current):
        spikes, membrane, left = recurrent_torch.recurrent_forward(
            current, beta, threshold, weight, bias, dynamics
        )
        recorded = (spikes.sum(1).to(torch.int32), moments(left)) if record else None
        return spikes, membrane if save else None, recorded
    clips, _, features = current.shape
    spikes = torch.empty_like(current)
    membrane = torch.empty_like(current) if save else current.new_empty(0, 0, 0)
    counts = torch.zeros(clips if record else 0, features, dtype=torch.int32)
    sums = torch.zeros(6, features, dtype=torch.float64)
    recurrent_numba.recurrent_forward(
        current.numpy(),
        beta.numpy(),
        threshold.numpy(),
        weight.t().contiguous().numpy(),
        bias.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        spikes.numpy(),
        membrane.numpy(),
        counts.numpy(),
        sums.numpy(),
    )
    return spikes, membrane if save else None, (counts, sums) if record else None


def recurrent_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    weight: Tensor,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dβ and dL/dθ of each clip, [B, F] each.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: from `recurrent_forward` with `save`.
        beta: as in the forward pass.
        threshold: as in the forward pass.
        weight: as in the forward pass.
        dynamics: as in the forward pass.
    """
    if not uses_numba(dynamics.backend, membrane):
        return recurrent_torch.recurrent_backward(
            grad_spikes, membrane, beta, threshold, weight, dynamics
        )
    clips, _, features = membrane.shape
    derivatives, kind, slope, second = surrogate_arguments(dynamics, membrane, threshold)
    grad_current = torch.empty_like(membrane)
    grad_beta = membrane.new_zeros(clips, features)
    grad_threshold = membrane.new_zeros(clips, features)
    recurrent_numba.recurrent_backward(
        grad_spikes.contiguous().numpy(),
        membrane.numpy(),
        derivatives,
        beta.numpy(),
        threshold.numpy(),
        weight.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        kind,
        slope,
        second,
        grad_current.numpy(),
        grad_beta.numpy(),
        grad_threshold.numpy(),
    )
    return grad_current, grad_beta, grad_threshold


def spikes_before(membrane: Tensor, threshold: Tensor) -> Tensor:
    """Return the spikes of the step before each, zeros at the first, [B, T, F]."""
    spikes = above(membrane, threshold)
    return torch.cat([torch.zeros_like(spikes[:, :1]), spikes[:, :-1]], dim=1)


class RecurrentFunction(torch.autograd.Function):
    """Spikes of a recurrent layer; saves one membrane tensor for its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        beta: Tensor,
        threshold: Tensor,
        weight: Tensor,
        bias: Tensor,
        dynamics: Dynamics,
    ) -> Tensor:
        """Return S [B, T, F] for I [B, T, F], β, θ, bias [F] and weights [F to, F from]."""
        beta, threshold, weight = beta.contiguous(), threshold.contiguous(), weight.contiguous()
        spikes, membrane, _ = recurrent_forward(
            current.contiguous(),
            beta,
            threshold,
            weight,
            bias.contiguous(),
            dynamics,
            save=any(ctx.needs_input_grad),
        )
        if membrane is not None:
            ctx.save_for_backward(membrane, beta, threshold, weight)
        ctx.dynamics = dynamics
        return spikes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad_spikes: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of I, β, θ, weights and bias."""
        membrane, beta, threshold, weight = ctx.saved_tensors
        grad_current, grad_beta, grad_threshold = recurrent_backward(
            grad_spikes, membrane, beta, threshold, weight, ctx.dynamics
        )
        before = spikes_before(membrane, threshold)
        grad_weight = grad_current.flatten(0, 1).t() @ before.flatten(0, 1)
        return (
            grad_current,
            grad_beta.sum(0),
            grad_threshold.sum(0),
            grad_weight,
            grad_current.sum((0, 1)),
            None,
        )


def recurrent(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    weight: Tensor,
    bias: Tensor,
    dynamics: Dynamics,
) -> Tensor:
    """Return the spikes of a recurrent leaky integrate-and-fire layer, differentiable once.

    Args:
        current: I, [B, T, F] with T >= 1.
        beta: decay per step, [F].
        threshold: θ, [F].
        weight: recurrent weights, [F to, F from].
        bias: added to the recurrent input at every step, [F].
        dynamics: reset, its timing, surrogate, backend.
    """
    return RecurrentFunction.apply(current, beta, threshold, weight, bias, dynamics)  # pyright: ignore[reportReturnType] - `apply` is untyped
