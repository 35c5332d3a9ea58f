"""Leaky integrate-and-fire with a synaptic current over time, compiled or in plain PyTorch."""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

import torch
from torch import Tensor

from fnl.snn.kernels import synaptic_numba, synaptic_torch
from fnl.snn.kernels.dynamics import Dynamics, uses_numba, uses_triton
from fnl.snn.kernels.lif import surrogate_arguments
from fnl.snn.kernels.lif_torch import moments
from fnl.snn.kernels.scan import Recorded, Scan


def synaptic_forward(
    current: Tensor,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    save: bool = False,
    record: bool = False,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Step every neuron of every clip through time.

    Args:
        current: I, contiguous [B, T, F] with T >= 1.
        alpha: decay of the synaptic current per step, contiguous [F].
        beta: decay of the membrane per step, contiguous [F].
        threshold: θ, contiguous [F].
        dynamics: reset, its timing, backend.
        save: whether to return the membrane that `synaptic_backward` needs.
        record: whether to return statistics.

    Returns:
        Spikes [B, T, F]; the membrane compared with θ [B, T, F] or None; statistics or None.
    """
    if uses_triton(dynamics.backend, current):
        from fnl.snn.kernels import synaptic_triton  # noqa: PLC0415 Triton is there with CUDA only

        return synaptic_triton.synaptic_forward(
            current, alpha, beta, threshold, dynamics, save=save, record=record
        )
    if not uses_numba(dynamics.backend, current):
        spikes, membrane, left = synaptic_torch.synaptic_forward(
            current, alpha, beta, threshold, dynamics
        )
        recorded = (spikes.sum(1).to(torch.int32), moments(left)) if record else None
        return spikes, membrane if save else None, recorded
    clips, _, features = current.shape
    spikes = torch.empty_like(current)
    membrane = torch.empty_like(current) if save else current.new_empty(0, 0, 0)
    counts = torch.zeros(clips if record else 0, features, dtype=torch.int32)
    sums = torch.zeros(6, features, dtype=torch.float64)
    synaptic_numba.synaptic_forward(
        current.numpy(),
        alpha.numpy(),
        beta.numpy(),
        threshold.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        spikes.numpy(),
        membrane.numpy(),
        counts.numpy(),
        sums.numpy(),
    )
    return spikes, membrane if save else None, (counts, sums) if record else None


def synaptic_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    learns: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dα, dL/dβ and dL/dθ of each clip, [B, F] each.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: from `synaptic_forward` with `save`.
        current: I of the forward pass; None where nothing is learned.
        alpha: as in the forward pass.
        beta: as in the forward pass.
        threshold: as in the forward pass.
        dynamics: as in the forward pass.
        learns: whether the gradients of α, β and θ are wanted.
    """
    if uses_triton(dynamics.backend, membrane):
        from fnl.snn.kernels import synaptic_triton  # noqa: PLC0415 Triton is there with CUDA only

        return synaptic_triton.synaptic_backward(
            grad_spikes, membrane, current, alpha, beta, threshold, dynamics, learns=learns
        )
    if not uses_numba(dynamics.backend, membrane):
        return synaptic_torch.synaptic_backward(
            grad_spikes, membrane, current, alpha, beta, threshold, dynamics
        )
    clips, _, features = membrane.shape
    derivatives, kind, slope, second = surrogate_arguments(dynamics, membrane, threshold)
    grad_current = torch.empty_like(membrane)
    grads = [membrane.new_zeros(clips, features) for _ in range(3)]
    if current is None:
        current = membrane.new_empty(0, 0, 0)
    synaptic_numba.synaptic_backward(
        grad_spikes.contiguous().numpy(),
        membrane.numpy(),
        current.numpy(),
        derivatives,
        alpha.numpy(),
        beta.numpy(),
        threshold.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        kind,
        slope,
        second,
        learns,
        grad_current.numpy(),
        *(gradient.numpy() for gradient in grads),
    )
    return grad_current, grads[0], grads[1], grads[2]


SYNAPTIC_SCAN = Scan(synaptic_forward, synaptic_backward, keeps_current=True)
"""Rows α, β and θ."""
