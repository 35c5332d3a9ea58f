"""What the neurons share in plain PyTorch, a tensor operation at a time.

For devices and dtypes without a compiled kernel, and to check the compiled ones against: the same
arguments, results and order of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset

Tensors = Sequence[Tensor]
"""The neurons': `scan.Scan`."""

Charge = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(t, the membrane carried, spikes of the step before, whether each neuron is reset), [B, F] each,
-> the membrane compared with θ, [B, F]."""


def above(membrane: Tensor, threshold: Tensor) -> Tensor:
    """Return H(U − θ) in the membrane's dtype."""
    return (membrane - threshold > 0).to(membrane.dtype)


def reset_by_spike(dynamics: Dynamics, threshold: Tensor, fired: Tensor, resets: Tensor) -> Tensor:
    """Return the membrane after the resets [B, F], which are 1, 0 or −1 for one taken back."""
    if dynamics.reset is Reset.NONE:
        return fired
    return fired - resets * (threshold if dynamics.reset is Reset.SUBTRACT else fired)


def membrane_left(dynamics: Dynamics, threshold: Tensor, fired: Tensor, resets: Tensor) -> Tensor:
    """Return the membrane a step leaves, given the resets that its own spikes cause."""
    if dynamics.reset_delay:
        return fired
    return reset_by_spike(dynamics, threshold, fired, resets)


def step_through(
    current: Tensor, threshold: Tensor, dynamics: Dynamics, charge: Charge
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the membrane compared with θ, and the membrane left, each [B, T, F]."""
    spikes, membrane, left = (torch.empty_like(current) for _ in range(3))
    carried = spike = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        was_reset = above(carried, threshold)
        fired = charge(t, carried, spike, was_reset)
        spike = above(fired, threshold)
        carried = membrane_left(dynamics, threshold, fired, spike - was_reset)
        membrane[:, t], spikes[:, t], left[:, t] = fired, spike, carried
    return spikes, membrane, left


def moments_of(left: Tensor) -> Tensor:
    """Return the moments of `scan.Recorded`, float64 [6, F].

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
    if not acts_at_once(dynamics):
        return membrane
    left = torch.empty_like(membrane)
    carried = torch.zeros_like(membrane[:, 0])
    for t in range(membrane.shape[1]):
        resets = above(membrane[:, t], threshold) - above(carried, threshold)
        carried = membrane_left(dynamics, threshold, membrane[:, t], resets)
        left[:, t] = carried
    return left


def acts_at_once(dynamics: Dynamics) -> bool:
    """Return whether a spike resets the membrane in its own step."""
    return not dynamics.reset_delay and dynamics.reset is not Reset.NONE


def step_back(
    grad_spikes: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    wipes_input: bool,
    weight: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Go back through time; return the gradient of what enters the membranes, and of β and θ.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: the membrane compared with θ, [B, T, F].
        beta: decay per step, [F].
        threshold: θ, [F].
        dynamics: as in the forward pass.
        wipes_input: whether a reset to zero takes away what enters in its step, too.
        weight: of the synapses from spikes to the step after, [F to, F from].

    Returns:
        [B, T, F], and of each clip [B, F] each.
    """
    left = all_left(membrane, threshold, dynamics)
    grad_input = torch.empty_like(membrane)
    grad_left = grad_in = torch.zeros_like(membrane[:, 0])
    grad_beta, grad_threshold = torch.zeros_like(grad_left), torch.zeros_like(grad_left)
    for t in reversed(range(membrane.shape[1])):
        fired, grad_out = membrane[:, t], grad_spikes[:, t]
        if weight is not None:
            grad_out = grad_out + grad_in @ weight
        entered = left[:, t - 1] if t > 0 else torch.zeros_like(fired)
        was_reset = above(entered, threshold)
        if acts_at_once(dynamics):
            resets = above(fired, threshold) - was_reset
            if dynamics.reset is Reset.SUBTRACT:
                grad_out = grad_out - grad_left * threshold
                grad_threshold -= grad_left * resets
            else:
                grad_out = grad_out - grad_left * fired
                grad_left = grad_left * (1 - resets)
        through_spike = grad_out * dynamics.surrogate.derivative(fired - threshold)
        grad_in = grad_left + through_spike
        grad_threshold -= through_spike
        if dynamics.reset is Reset.SUBTRACT:
            grad_threshold -= grad_in * was_reset
        kept = grad_in * (1 - was_reset) if dynamics.reset is Reset.ZERO else grad_in
        grad_in = kept if wipes_input else grad_in
        grad_input[:, t] = grad_in
        grad_beta += kept * entered
        grad_left = beta * kept
    return grad_input, [grad_beta, grad_threshold]
