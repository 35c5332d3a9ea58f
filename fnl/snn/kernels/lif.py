"""Leaky integrate-and-fire over time: `u ← βu + I − θH(u − θ)`, compiled and in plain PyTorch."""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np
from torch import Tensor

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.numba_blocks import SUBTRACT, ZERO
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors


@kernel
def lif_forward(current, tensors, reset, reset_delay, spikes, membrane, counts, moments):
    """Do the forward pass of `Passes`; the tensors are β and θ."""
    beta, threshold = tensors
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    left = blocks.room_for_left(counts, current)
    for b in range(clips):
        carried[:] = 0
        for t in range(steps):
            advance(reset, reset_delay, beta, threshold, current, b, t, carried, fired, spikes)
            blocks.keep(b, t, fired, carried, membrane, left)
        record_clip(b, spikes, left, counts, moments)


@kernel
def advance(reset, reset_delay, beta, threshold, current, b, t, carried, fired, spikes):
    """Advance the neurons of clip b by step t, from the membrane `carried` to the one they leave.

    `fired` receives the membrane that was compared with the threshold; both [F].
    """
    one, zero = blocks.literals(current)
    features = current.shape[2]
    if reset == SUBTRACT:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * u + current[b, t, f] - was_reset * threshold[f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[b, t, f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * threshold[f]
    elif reset == ZERO:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * ((one - was_reset) * u) + current[b, t, f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[b, t, f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * v
    else:
        for f in range(features):
            v = beta[f] * carried[f] + current[b, t, f]
            fired[f] = v
            spikes[b, t, f] = one if v - threshold[f] > zero else zero
            carried[f] = v


@kernel
def lif_backward(
    grad_spikes, membrane, _current, slopes, tensors, reset, reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    """Do the backward pass of `Passes`; the tensors are β and θ."""
    beta, threshold = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    same_step = not reset_delay and reset in (SUBTRACT, ZERO)
    derivative, fired, entered, grad_out, grad_left = blocks.rooms(membrane)
    left = np.empty((steps if same_step else 0, features), membrane.dtype)
    for b in range(clips):
        blocks.surrogate_clip(b, surrogate, slopes, threshold, derivative)
        blocks.replay_left(b, reset, reset_delay, threshold, membrane, entered, fired, left)
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            if t == 0:
                entered[:] = zero
            elif same_step:
                entered[:] = left[t - 1]
            elif learns or reset == ZERO:
                for f in range(features):
                    entered[f] = membrane[b, t - 1, f]
            for f in range(features):
                grad_out[f] = grad_spikes[b, t, f]
            if same_step:
                for f in range(features):
                    fired[f] = membrane[b, t, f]
                blocks.undo_reset(
                    reset, reset_delay, threshold, fired, entered, grad_out, grad_left, grads[1, b]
                )
            if learns:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[t, f]
                    was_reset = one if entered[f] - threshold[f] > zero else zero
                    kept = one - was_reset if reset == ZERO else one
                    dropped = was_reset if reset == SUBTRACT else zero
                    grads[0, b, f] += grad_in * kept * entered[f]
                    grads[1, b, f] -= grad_out[f] * derivative[t, f] + grad_in * dropped
            if reset == ZERO:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[t, f]
                    kept = zero if entered[f] - threshold[f] > zero else one
                    grad_current[b, t, f] = grad_in
                    grad_left[f] = beta[f] * kept * grad_in
            else:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[t, f]
                    grad_current[b, t, f] = grad_in
                    grad_left[f] = beta[f] * grad_in


def plain_lif(current: Tensor, tensors: Tensors, dynamics: Dynamics) -> Charge:
    """Return how `lif_forward` charges."""
    beta, threshold = tensors

    def charge(t: int, carried: Tensor, _spike: Tensor, was_reset: Tensor) -> Tensor:
        if dynamics.reset is Reset.ZERO:
            return beta * ((1 - was_reset) * carried) + current[:, t]
        fired = beta * carried + current[:, t]
        return fired - was_reset * threshold if dynamics.reset is Reset.SUBTRACT else fired

    return charge


LIF_SCAN = Scan(
    rows=("beta", "threshold"),
    states=("membrane",),
    compiled=Passes(lif_forward, lif_backward),
    plain=plain_lif,
    triton="lif_triton",
    overwrites=True,
)
