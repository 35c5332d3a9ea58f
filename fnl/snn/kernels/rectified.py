"""Leaky integrators that send what is above θ, over time: `u ← βu + (1 − β)I, a = max(u − θ, 0)`.

The conventional counterpart of the spiking kernels: nothing fires and nothing is reset. Compiled
and in plain PyTorch; without and with synapses between the neurons.
"""
# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.recurrent import heard
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors


@kernel
def rectified_forward(current, tensors, _reset, _delay, activations, membrane, counts, moments):
    """Do the forward pass of `Passes`; the tensors are β and θ, with synapses also W and c."""
    beta, threshold = tensors[0], tensors[1]
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    drive = np.empty(features, current.dtype)
    left = blocks.room_for_left(counts, current)
    for b in range(clips):
        carried[:] = zero
        for t in range(steps):
            drive_row(b, t, current, activations, tensors, drive)
            for f in range(features):
                u = beta[f] * carried[f] + (one - beta[f]) * drive[f]
                above = u - threshold[f]
                activations[b, t, f] = above if above > zero else zero
                carried[f] = u
            blocks.keep(b, t, carried, carried, membrane, left)
        record_clip(b, activations, left, counts, moments)


@kernel
def drive_row(b, t, current, activations, tensors, drive):
    """Write to `drive`, [F], what the neurons of clip b integrate in step t: I, or I + W a + c."""
    features = drive.shape[0]
    for f in range(features):
        drive[f] = current[b, t, f]
    if len(tensors) > 2:
        weight, bias = tensors[2], tensors[3]
        for target in range(features):
            total = bias[target]
            if t > 0:
                for source in range(features):
                    total += weight[target, source] * activations[b, t - 1, source]
            drive[target] += total


@kernel
def rectified_backward(
    grad_activations, membrane, current, _slopes, tensors, _reset, _delay, _surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    """Do the backward pass of `Passes`; the tensors as in the forward pass."""
    beta, threshold = tensors[0], tensors[1]
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    grad_out, grad_left, drive = (
        np.empty(features, membrane.dtype),
        np.empty(features, membrane.dtype),
        np.empty(features, membrane.dtype),
    )
    sent = np.empty((1, steps if learns else 0, features), membrane.dtype)
    for b in range(clips):
        if learns:
            for t in range(steps):
                for f in range(features):
                    above = membrane[b, t, f] - threshold[f]
                    sent[0, t, f] = above if above > zero else zero
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            for f in range(features):
                grad_out[f] = grad_activations[b, t, f]
            if len(tensors) > 2 and step > 0:
                blocks.add_heard(b, t, grad_current, tensors[2], grad_out)
            if learns:
                drive_row(0, t, current[b : b + 1], sent, tensors, drive)
            for f in range(features):
                is_above = membrane[b, t, f] - threshold[f] > zero
                through = grad_out[f] if is_above else zero
                grad_membrane = grad_left[f] + through
                if learns:
                    entered = membrane[b, t - 1, f] if t > 0 else zero
                    grads[0, b, f] += grad_membrane * (entered - drive[f])
                    grads[1, b, f] -= through
                grad_current[b, t, f] = (one - beta[f]) * grad_membrane
                grad_left[f] = beta[f] * grad_membrane


def plain_rectified(current: Tensor, tensors: Tensors, _dynamics: Dynamics) -> Charge:
    """Return how `rectified_forward` charges."""
    beta, _threshold, *synapses = tensors

    def charge(t: int, carried: Tensor, activation: Tensor, _was_reset: Tensor) -> Tensor:
        drive = current[:, t]
        if synapses:
            weight, bias = synapses
            drive = drive + heard(activation, weight, bias)
        return beta * carried + (1 - beta) * drive

    return charge


RECTIFIED_SCAN = Scan(
    rows=("beta", "threshold"),
    states=("membrane",),
    compiled=Passes(rectified_forward, rectified_backward),
    plain=plain_rectified,
    rectifies=True,
    keeps_current=True,
)
RECURRENT_RECTIFIED_SCAN = replace(RECTIFIED_SCAN, recurrent=True)
