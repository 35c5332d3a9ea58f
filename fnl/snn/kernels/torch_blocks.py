"""A kind of neuron in plain PyTorch: one step at a time, and back by autograd.

For devices and dtypes without a compiled kernel, and to check the compiled ones against: the same
arguments, results and order of operations forward, and gradients that nobody derived by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.surrogates import Surrogate

Tensors = Sequence[Tensor]
"""The neurons': `scan.Scan`; on the way back every clip has rows of its own, [B, F] each."""

Charge = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(t, the membrane carried, spikes of the step before, whether each neuron is reset), [B, F] each,
-> the membrane compared with θ, [B, F]. Called once a step, in order."""

Plain = Callable[[Tensor, Tensors, Dynamics], Charge]
"""A kind of neuron: (I [B, T, F], its tensors, dynamics) -> how it charges."""


def above(membrane: Tensor, threshold: Tensor) -> Tensor:
    """Return H(U − θ) in the membrane's dtype, without gradient."""
    return (membrane - threshold > 0).to(membrane.dtype)


def over_steps(row: Tensor) -> Tensor:
    """Return a row [F], or each clip's own [B, F], as what goes with [B, T, F]."""
    return row if row.ndim == 1 else row.unsqueeze(1)


def reset_by_spike(dynamics: Dynamics, threshold: Tensor, fired: Tensor, resets: Tensor) -> Tensor:
    """Return the membrane after the resets [B, F], which are 1, 0 or −1 for one taken back."""
    if dynamics.reset is Reset.NONE:
        return fired
    return fired - resets * (threshold if dynamics.reset is Reset.SUBTRACT else fired)


def step_through(
    current: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    charge: Charge,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the membrane compared with θ, and the membrane left, each [B, T, F].

    The membrane compared is `known` where it is given, whatever `current` is: gradients need it.
    """
    spikes, membrane, left = [], [], []
    carried = spike = torch.zeros_like(current[:, 0])
    for t in range(current.shape[1]):
        was_reset = above(carried, threshold)
        fired = charge(t, carried, spike, was_reset)
        if known is not None:
            fired = known[:, t] + (fired - fired.detach())
        spike = sent(fired - threshold, dynamics)
        carried = fired
        if not dynamics.reset_delay:
            carried = reset_by_spike(dynamics, threshold, fired, spike - was_reset)
        membrane.append(fired)
        spikes.append(spike)
        left.append(carried)
    return torch.stack(spikes, 1), torch.stack(membrane, 1), torch.stack(left, 1)


def step_back(
    kind: tuple[Plain, int],
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,
    *,
    tensors: Tensors,
    dynamics: Dynamics,
) -> tuple[Tensor, Tensors]:
    """Do `Scan.backward` by autograd through the steps, which go where they went before.

    Args:
        kind: of neuron, and how many of `tensors` are its rows; the last of them is θ.
        grad_spikes: dL/dS, [B, T, F].
        membrane: the membrane compared with θ, [B, T, F].
        current: I; without it the gradients of rows that need it say nothing.
        tensors: the neurons'.
        dynamics: as in the forward pass.
    """
    plain, rows = kind
    with torch.enable_grad():
        source = torch.zeros_like(membrane) if current is None else current.detach()
        own = [row.detach().expand(len(membrane), -1).clone() for row in tensors[:rows]]
        inputs = [tensor.requires_grad_() for tensor in (source, *own)]
        charge = plain(source, [*own, *(one.detach() for one in tensors[rows:])], dynamics)
        spikes, _, _ = step_through(source, own[-1], dynamics, charge, membrane)
    grad_current, *grads = torch.autograd.grad(spikes, inputs, grad_spikes, materialize_grads=True)
    return grad_current, grads


def sent(shifted: Tensor, dynamics: Dynamics) -> Tensor:
    """Return what neurons send at `shifted` = U − θ, differentiable: spikes, or U − θ above 0."""
    if dynamics.rectifies:
        return torch.relu(shifted)
    return _Spike.apply(shifted, dynamics.surrogate)  # pyright: ignore[reportReturnType] - untyped


class _Spike(torch.autograd.Function):
    """H(U − θ), with the surrogate in place of its derivative; the surrogate has its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(shifted: Tensor, _surrogate: Surrogate) -> Tensor:
        return (shifted > 0).to(shifted.dtype)

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Surrogate],
        output: Tensor,  # noqa: ARG004 - torch's own name
    ) -> None:
        shifted, ctx.surrogate = inputs
        ctx.save_for_backward(shifted)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        (shifted,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(shifted), None


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
