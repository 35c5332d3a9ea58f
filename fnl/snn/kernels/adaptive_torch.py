"""Adaptive leaky integrate-and-fire in plain PyTorch: the reference of the compiled one.

The same arguments, results and order of operations, a tensor operation at a time.
"""
# ruff: noqa: PLR0917 - a kernel's tensors have one order everywhere

from __future__ import annotations

import torch
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.lif_torch import above


def _reset(dynamics: Dynamics, spike: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of u[t−1] that is kept, and how often θ is subtracted."""
    kept = 1 - spike if dynamics.reset is Reset.ZERO else torch.ones_like(spike)
    dropped = spike if dynamics.reset is Reset.SUBTRACT else torch.zeros_like(spike)
    return kept, dropped


def adaptive_forward(
    current: Tensor,
    alpha: Tensor,
    beta: Tensor,
    a: Tensor,
    b: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensor]:
    """Return spikes and the membrane u, [B, T, F] each.

    Args:
        current: I, [B, T, F].
        alpha: decay of the membrane per step, [F].
        beta: decay of the adaptation per step, [F].
        a: adaptation by the membrane, [F].
        b: adaptation by a spike, [F].
        threshold: θ, [F].
        dynamics: reset.
    """
    spikes, membrane = torch.empty_like(current), torch.empty_like(current)
    before = spike = adaptation = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        kept, dropped = _reset(dynamics, spike)
        drive = (1 - alpha) * (current[:, t] - adaptation)
        after = alpha * (kept * before) + drive - dropped * threshold
        adaptation = beta * adaptation + a * before + b * spike
        before, spike = after, above(after, threshold)
        membrane[:, t], spikes[:, t] = after, spike
    return spikes, membrane


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
) -> tuple[Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dα, dL/dβ, dL/da, dL/db, dL/dθ of each clip [5, B, F].

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: u, from `adaptive_forward`.
        current: I, [B, T, F]; None if the gradients of the parameters are not wanted.
        alpha: as in the forward pass.
        beta: as in the forward pass.
        a: as in the forward pass.
        b: as in the forward pass.
        threshold: as in the forward pass.
        dynamics: as in the forward pass.
    """
    spikes = above(membrane, threshold)
    grad_current = torch.empty_like(membrane)
    # of every step, dL/du and dL/dw, and what reaches u through the spike
    grads_u, grads_w, throughs = (torch.empty_like(membrane) for _ in range(3))
    grad_u = grad_w = torch.zeros_like(membrane[:, 0])
    for t in reversed(range(membrane.shape[1])):
        kept, _ = _reset(dynamics, spikes[:, t])
        derivative = dynamics.surrogate.derivative(membrane[:, t] - threshold)
        through = (grad_spikes[:, t] + b * grad_w) * derivative
        left = alpha * kept * grad_u + a * grad_w
        grad_w = beta * grad_w - (1 - alpha) * grad_u
        grad_u = left + through
        grad_current[:, t] = (1 - alpha) * grad_u
        grads_u[:, t], grads_w[:, t], throughs[:, t] = grad_u, grad_w, through
    if current is None:
        return grad_current, membrane.new_zeros(5, len(membrane), membrane.shape[2])
    entered, spiked = _late(membrane), _late(spikes)
    adaptation = torch.zeros_like(membrane)
    for t in range(1, membrane.shape[1]):
        before = t - 1
        adapted = beta * adaptation[:, before] + a * entered[:, before] + b * spiked[:, before]
        adaptation[:, t] = adapted
    kept, dropped = _reset(dynamics, spiked)
    terms = (
        grads_u * (kept * entered - (current - adaptation)),
        grads_w * adaptation,
        grads_w * entered,
        grads_w * spiked,
        -throughs - grads_u * dropped,
    )
    return grad_current, torch.stack([term.sum(1) for term in terms])


def _late(values: Tensor) -> Tensor:
    """Return the values [B, T, F] of the step before each, zeros at the first."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)
