"""Leaky integrate-and-fire over time in plain PyTorch: the reference of `lif_numba`.

The same arguments, results and order of operations, a tensor operation at a time: for devices
and dtypes without a compiled kernel, and to check the compiled ones against.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset


def above(membrane: Tensor, threshold: Tensor) -> Tensor:
    """Return H(U − θ) in the membrane's dtype."""
    return (membrane - threshold > 0).to(membrane.dtype)


def _step(
    dynamics: Dynamics, beta: Tensor, threshold: Tensor, current: Tensor, carried: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the membrane compared with θ, the spikes, and the membrane left, each [B, F]."""
    was_reset = above(carried, threshold)
    if dynamics.reset is Reset.SUBTRACT:
        fired = beta * carried + current - was_reset * threshold
    elif dynamics.reset is Reset.ZERO:
        fired = beta * ((1 - was_reset) * carried) + current
    else:
        fired = beta * carried + current
    spikes = above(fired, threshold)
    return fired, spikes, membrane_left(dynamics, threshold, fired, spikes - was_reset)


def membrane_left(dynamics: Dynamics, threshold: Tensor, fired: Tensor, resets: Tensor) -> Tensor:
    """Return the membrane a step leaves, given the resets that its own spikes cause."""
    if dynamics.reset_delay or dynamics.reset is Reset.NONE:
        return fired
    return fired - resets * (threshold if dynamics.reset is Reset.SUBTRACT else fired)


def lif_forward(
    current: Tensor, beta: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the membrane compared with θ, and the membrane left, each [B, T, F]."""
    spikes, membrane, left = (torch.empty_like(current) for _ in range(3))
    carried = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        fired, spike, carried = _step(dynamics, beta, threshold, current[:, t], carried)
        membrane[:, t], spikes[:, t], left[:, t] = fired, spike, carried
    return spikes, membrane, left


def moments(left: Tensor) -> Tensor:
    """Return `lif_numba.lif_forward`'s moments, float64 [6, F].

    Args:
        left: the membrane after each step, [B, T, F], T >= 1.
    """
    u = left.double()
    changes = torch.count_nonzero(u[:, 1:] != u[:, :-1], dim=(0, 1)) + len(u)
    return torch.stack(
        [
            u.sum((0, 1)),
            (u * u).sum((0, 1)),
            (u[:, 1:] * u[:, :-1]).sum((0, 1)),
            u[:, 0].sum(0),
            u[:, -1].sum(0),
            changes.double(),
        ]
    )


def all_left(membrane: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the membrane after each step, [B, T, F], from the one compared with θ."""
    if dynamics.reset_delay or dynamics.reset is Reset.NONE:
        return membrane
    left = torch.empty_like(membrane)
    carried = torch.zeros_like(membrane[:, 0])
    for t in range(membrane.shape[1]):
        resets = above(membrane[:, t], threshold) - above(carried, threshold)
        carried = membrane_left(dynamics, threshold, membrane[:, t], resets)
        left[:, t] = carried
    return left


def lif_backward(
    grad_spikes: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dβ and dL/dθ of each clip [B, F].

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: the membrane compared with θ, [B, T, F], from `lif_forward`.
        beta: decay per step, [F].
        threshold: θ, [F].
        dynamics: as in the forward pass.
    """
    same_step = not dynamics.reset_delay and dynamics.reset is not Reset.NONE
    left = all_left(membrane, threshold, dynamics)
    grad_current = torch.empty_like(membrane)
    grad_left = torch.zeros_like(membrane[:, 0])
    grad_beta, grad_threshold = torch.zeros_like(grad_left), torch.zeros_like(grad_left)
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
        grad_in = grad_left + through_spike
        grad_current[:, t] = grad_in
        kept = 1 - was_reset if dynamics.reset is Reset.ZERO else torch.ones_like(was_reset)
        grad_left = beta * kept * grad_in
        grad_beta += grad_in * kept * entered
        grad_threshold -= through_spike
        if dynamics.reset is Reset.SUBTRACT:
            grad_threshold -= grad_in * was_reset
    return grad_current, grad_beta, grad_threshold
