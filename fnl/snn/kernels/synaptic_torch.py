"""Leaky integrate-and-fire with a synaptic current in plain PyTorch: the compiled one's reference.

The same arguments, results and order of operations, a tensor operation at a time.
"""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

import torch
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.lif_torch import above, all_left, membrane_left


def synaptic_forward(
    current: Tensor, alpha: Tensor, beta: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the membrane compared with θ, and the membrane left, each [B, T, F].

    Args:
        current: I, [B, T, F].
        alpha: decay of the synaptic current per step, [F].
        beta: decay of the membrane per step, [F].
        threshold: θ, [F].
        dynamics: reset and its timing.
    """
    spikes, membrane, left = (torch.empty_like(current) for _ in range(3))
    carried = synaptic = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        was_reset = above(carried, threshold)
        synaptic = alpha * synaptic + current[:, t]
        fired = beta * carried + synaptic
        if dynamics.reset is Reset.SUBTRACT:
            fired = fired - was_reset * threshold
        elif dynamics.reset is Reset.ZERO:
            fired = fired - was_reset * fired
        spike = above(fired, threshold)
        carried = membrane_left(dynamics, threshold, fired, spike - was_reset)
        membrane[:, t], spikes[:, t], left[:, t] = fired, spike, carried
    return spikes, membrane, left


def synaptic_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dα, dL/dβ and dL/dθ of each clip [B, F].

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: the membrane compared with θ, [B, T, F].
        current: I, [B, T, F]; None if dL/dα is not wanted, which is then zero.
        alpha: as in the forward pass.
        beta: as in the forward pass.
        threshold: as in the forward pass.
        dynamics: as in the forward pass.
    """
    same_step = not dynamics.reset_delay and dynamics.reset is not Reset.NONE
    left = all_left(membrane, threshold, dynamics)
    grad_current = torch.empty_like(membrane)
    grad_left = torch.zeros_like(membrane[:, 0])
    grad_synaptic, grad_beta, grad_threshold = (torch.zeros_like(grad_left) for _ in range(3))
    for t in reversed(range(membrane.shape[1])):
        fired, grad_out = membrane[:, t], grad_spikes[:, t]
        entered = left[:, t - 1] if t > 0 else torch.zeros_like(fired)
        was_reset = above(entered, threshold)
        if same_step:
            resets = above(fired, threshold) - was_reset
            if dynamics.reset is Reset.SUBTRACT:
                grad_out = grad_out - grad_left * threshold
                grad_threshold -= grad_left * resets
            else:
                grad_out = grad_out - grad_left * fired
                grad_left = grad_left * (1 - resets)
        through_spike = grad_out * dynamics.surrogate.derivative(fired - threshold)
        grad_fired = grad_left + through_spike
        grad_threshold -= through_spike
        if dynamics.reset is Reset.SUBTRACT:
            grad_threshold -= grad_fired * was_reset
        elif dynamics.reset is Reset.ZERO:
            grad_fired = grad_fired * (1 - was_reset)
        grad_beta += grad_fired * entered
        grad_left = beta * grad_fired
        grad_synaptic = grad_fired + alpha * grad_synaptic
        grad_current[:, t] = grad_synaptic
    return grad_current, _grad_alpha(grad_current, current, alpha), grad_beta, grad_threshold


def _grad_alpha(grad_synaptic: Tensor, current: Tensor | None, alpha: Tensor) -> Tensor:
    """Return Σ_t dL/di[t] · i[t−1], [B, F], of the synaptic current i."""
    total = torch.zeros_like(grad_synaptic[:, 0])
    if current is None:
        return total
    synaptic = torch.zeros_like(total)
    for t in range(1, current.shape[1]):
        synaptic = alpha * synaptic + current[:, t - 1]
        total += grad_synaptic[:, t] * synaptic
    return total
