"""Recurrent leaky integrate-and-fire over time: `u ← βu + I + WS + c − θH(u − θ)`.

Compiled and in plain PyTorch. Compiled, the recurrent product is forward a sum of the columns of
those neurons that fired, so its cost follows the firing rate; backward, it is a full product a
step.
"""
# ruff: noqa: PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.numba_blocks import SUBTRACT, ZERO
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors, reset_by_spike


@kernel
def recurrent_forward(current, tensors, reset, reset_delay, spikes, membrane, counts, moments):
    """Do the forward pass of `Passes`; the tensors are β, θ, W and c."""
    beta, threshold, weight, bias = tensors
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    columns = np.ascontiguousarray(weight.T)  # [F from, F to]
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    drive = np.empty(features, current.dtype)
    left = blocks.room_for_left(counts, current)
    for b in range(clips):
        carried[:] = zero
        for t in range(steps):
            hear(b, t, spikes, columns, bias, drive)
            for f in range(features):
                u = carried[f]
                was_reset = one if u - threshold[f] > zero else zero
                v = beta[f] * u + current[b, t, f] + drive[f]
                if reset == SUBTRACT:
                    v = v - was_reset * threshold[f]
                elif reset == ZERO:
                    v = v - was_reset * v
                fired[f] = v
            blocks.spike_and_leave(b, t, reset, reset_delay, threshold, fired, carried, spikes)
            blocks.keep(b, t, fired, carried, membrane, left)
        record_clip(b, spikes, left, counts, moments)


@kernel
def hear(b, t, spikes, columns, bias, drive):
    """Write to `drive`, [F], what reaches the neurons of clip b from the spikes before step t."""
    for f in range(drive.shape[0]):
        drive[f] = bias[f]
    if t > 0:
        for source in range(columns.shape[0]):
            if spikes[b, t - 1, source] > 0:
                for f in range(drive.shape[0]):
                    drive[f] += columns[source, f]


@kernel
def recurrent_backward(
    grad_spikes, membrane, _current, slopes, tensors, reset, reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    """Do the backward pass of `Passes`; the tensors are β, θ, W and c."""
    beta, threshold, weight, _bias = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    derivative, fired, entered, grad_out, grad_left = blocks.rooms(membrane)
    left = np.empty((steps, features), membrane.dtype)
    for b in range(clips):
        blocks.surrogate_clip(b, surrogate, slopes, threshold, derivative)
        blocks.replay_left(b, reset, reset_delay, threshold, membrane, entered, fired, left)
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            blocks.load_step(b, t, grad_spikes, membrane, left, entered, fired, grad_out)
            if step > 0:
                blocks.add_heard(b, t, grad_current, weight, grad_out)
            blocks.undo_reset(
                reset, reset_delay, threshold, fired, entered, grad_out, grad_left, grads[1, b]
            )
            for f in range(features):
                through = grad_out[f] * derivative[t, f]
                grad_fired = grad_left[f] + through
                was_reset = one if entered[f] - threshold[f] > zero else zero
                if learns:
                    grads[1, b, f] -= through
                if reset == SUBTRACT and learns:
                    grads[1, b, f] -= grad_fired * was_reset
                elif reset == ZERO:
                    grad_fired = grad_fired * (one - was_reset)
                if learns:
                    grads[0, b, f] += grad_fired * entered[f]
                grad_left[f] = beta[f] * grad_fired
                grad_current[b, t, f] = grad_fired


def plain_recurrent(current: Tensor, tensors: Tensors, dynamics: Dynamics) -> Charge:
    """Return how `recurrent_forward` charges."""
    beta, threshold, weight, bias = tensors

    def charge(t: int, carried: Tensor, spike: Tensor, was_reset: Tensor) -> Tensor:
        fired = beta * carried + current[:, t] + heard(spike, weight, bias)
        return reset_by_spike(dynamics, threshold, fired, was_reset)

    return charge


def heard(spike: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return W S + c, [B, F], for one client or, with one more axis of W and c, for several."""
    if weight.ndim == 2:
        return F.linear(spike, weight, bias)
    clients = spike.unflatten(0, (len(weight), -1))
    return torch.baddbmm(bias[:, None], clients, weight.transpose(1, 2)).flatten(0, 1)


RECURRENT_SCAN = Scan(
    rows=("beta", "threshold"),
    states=("membrane",),
    compiled=Passes(recurrent_forward, recurrent_backward),
    plain=plain_recurrent,
    triton="recurrent_triton",
    recurrent=True,
)
