"""Recurrent leaky integrate-and-fire over time in plain PyTorch: reference of the compiled one."""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.lif_torch import above, all_left, membrane_left


def recurrent_forward(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    weight: Tensor,
    bias: Tensor,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the membrane compared with θ, and the membrane left, each [B, T, F].

    Args:
        current: I, [B, T, F].
        beta: decay per step, [F].
        threshold: θ, [F].
        weight: recurrent weights, [F to, F from].
        bias: added to the recurrent input at every step, [F].
        dynamics: reset and its timing.
    """
    spikes, membrane, left = (torch.empty_like(current) for _ in range(3))
    carried = spike = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        was_reset = above(carried, threshold)
        fired = beta * carried + current[:, t] + F.linear(spike, weight, bias)
        if dynamics.reset is Reset.SUBTRACT:
            fired = fired - was_reset * threshold
        elif dynamics.reset is Reset.ZERO:
            fired = fired - was_reset * fired
        spike = above(fired, threshold)
        carried = membrane_left(dynamics, threshold, fired, spike - was_reset)
        membrane[:, t], spikes[:, t], left[:, t] = fired, spike, carried
    return spikes, membrane, left


def recurrent_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    weight: Tensor,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dβ and dL/dθ of each clip [B, F].

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: the membrane compared with θ, [B, T, F].
        beta: decay per step, [F].
        threshold: θ, [F].
        weight: recurrent weights, [F to, F from].
        dynamics: as in the forward pass.
    """
    same_step = not dynamics.reset_delay and dynamics.reset is not Reset.NONE
    left = all_left(membrane, threshold, dynamics)
    grad_current = torch.empty_like(membrane)
    grad_left = torch.zeros_like(membrane[:, 0])
    grad_beta, grad_threshold, grad_fired = (torch.zeros_like(grad_left) for _ in range(3))
    for t in reversed(range(membrane.shape[1])):
        fired = membrane[:, t]
        grad_out = grad_spikes[:, t] + grad_fired @ weight
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
        grad_current[:, t] = grad_fired
    return grad_current, grad_beta, grad_threshold
