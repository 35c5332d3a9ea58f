"""Adaptive leaky integrate-and-fire over time, compiled or in plain PyTorch."""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

import torch
from torch import Tensor

from fnl.snn.kernels import adaptive_numba, adaptive_torch
from fnl.snn.kernels.dynamics import Dynamics, uses_numba, uses_triton
from fnl.snn.kernels.lif import surrogate_arguments
from fnl.snn.kernels.lif_torch import moments
from fnl.snn.kernels.scan import Recorded, Scan


def adaptive_forward(
    current: Tensor,
    alpha: Tensor,
    beta: Tensor,
    a: Tensor,
    b: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    save: bool = False,
    record: bool = False,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Step every neuron of every clip through time.

    Args:
        current: I, contiguous [B, T, F] with T >= 1.
        alpha: decay of the membrane per step, contiguous [F].
        beta: decay of the adaptation per step, contiguous [F].
        a: adaptation by the membrane, contiguous [F].
        b: adaptation by a spike, contiguous [F].
        threshold: θ, contiguous [F].
        dynamics: reset, backend.
        save: whether to return the membrane that `adaptive_backward` needs.
        record: whether to return statistics.

    Returns:
        Spikes [B, T, F]; the membrane u [B, T, F] or None; statistics or None.
    """
    rows = (alpha, beta, a, b, threshold)
    if uses_triton(dynamics.backend, current):
        from fnl.snn.kernels import adaptive_triton  # noqa: PLC0415 Triton is there with CUDA only

        return adaptive_triton.adaptive_forward(current, rows, dynamics, save=save, record=record)
    if not uses_numba(dynamics.backend, current):
        spikes, membrane = adaptive_torch.adaptive_forward(current, *rows, dynamics)
        recorded = (spikes.sum(1).to(torch.int32), moments(membrane)) if record else None
        return spikes, membrane if save else None, recorded
    clips, _, features = current.shape
    spikes = torch.empty_like(current)
    membrane = torch.empty_like(current) if save else current.new_empty(0, 0, 0)
    counts = torch.zeros(clips if record else 0, features, dtype=torch.int32)
    sums = torch.zeros(6, features, dtype=torch.float64)
    adaptive_numba.adaptive_forward(
        current.numpy(),
        *(row.numpy() for row in rows),
        int(dynamics.reset),
        spikes.numpy(),
        membrane.numpy(),
        counts.numpy(),
        sums.numpy(),
    )
    return spikes, membrane if save else None, (counts, sums) if record else None


def adaptive_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    a: Tensor,
    b: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    learns: bool = True,
) -> tuple[Tensor, ...]:
    """Return dL/dI [B, T, F], and dL/dα, dL/dβ, dL/da, dL/db, dL/dθ of each clip, [B, F] each.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: from `adaptive_forward` with `save`.
        current: I of the forward pass; None where nothing is learned.
        alpha: as in the forward pass.
        beta: as in the forward pass.
        a: as in the forward pass.
        b: as in the forward pass.
        threshold: as in the forward pass.
        dynamics: as in the forward pass.
        learns: whether the gradients of the parameters are wanted; they are zero if not.
    """
    rows = (alpha, beta, a, b, threshold)
    if uses_triton(dynamics.backend, membrane):
        from fnl.snn.kernels import adaptive_triton  # noqa: PLC0415 Triton is there with CUDA only

        return adaptive_triton.adaptive_backward(
            grad_spikes, membrane, current, rows, dynamics, learns=learns
        )
    if not uses_numba(dynamics.backend, membrane):
        grad_current, grads = adaptive_torch.adaptive_backward(
            grad_spikes, membrane, current, *rows, dynamics
        )
        return grad_current, *grads
    clips, _, features = membrane.shape
    derivatives, kind, slope, second = surrogate_arguments(dynamics, membrane, threshold)
    grad_current = torch.empty_like(membrane)
    grads = membrane.new_zeros(5, clips, features)
    if current is None:
        current = membrane.new_empty(0, 0, 0)
    adaptive_numba.adaptive_backward(
        grad_spikes.contiguous().numpy(),
        membrane.numpy(),
        current.numpy(),
        derivatives,
        *(row.numpy() for row in rows),
        int(dynamics.reset),
        kind,
        slope,
        second,
        learns,
        grad_current.numpy(),
        grads.numpy(),
    )
    return grad_current, *grads


ADAPTIVE_SCAN = Scan(adaptive_forward, adaptive_backward, keeps_current=True)
"""Rows α, β, a, b and θ."""
