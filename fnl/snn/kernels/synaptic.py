"""Leaky integrate-and-fire with a synaptic current (second order) over time.

`i ← αi + I, u ← βu + i − θH(u − θ)`, compiled and in plain PyTorch.
"""
# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.numba_blocks import SUBTRACT, ZERO
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors, reset_by_spike


@kernel
def synaptic_forward(current, tensors, reset, reset_delay, spikes, membrane, counts, moments):
    """Do the forward pass of `Passes`; the tensors are α, β and θ."""
    alpha, beta, threshold = tensors
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    synaptic = np.empty(features, current.dtype)
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    left = blocks.room_for_left(counts, current)
    for b in range(clips):
        synaptic[:] = zero
        carried[:] = zero
        for t in range(steps):
            for f in range(features):
                synaptic[f] = alpha[f] * synaptic[f] + current[b, t, f]
            if reset == SUBTRACT:
                for f in range(features):
                    was_reset = one if carried[f] - threshold[f] > zero else zero
                    fired[f] = beta[f] * carried[f] + synaptic[f] - was_reset * threshold[f]
            elif reset == ZERO:
                for f in range(features):
                    was_reset = one if carried[f] - threshold[f] > zero else zero
                    v = beta[f] * carried[f] + synaptic[f]
                    fired[f] = v - was_reset * v
            else:
                for f in range(features):
                    fired[f] = beta[f] * carried[f] + synaptic[f]
            blocks.spike_and_leave(b, t, reset, reset_delay, threshold, fired, carried, spikes)
            blocks.keep(b, t, fired, carried, membrane, left)
        record_clip(b, spikes, left, counts, moments)


@kernel
def replay_synaptic(b, alpha, current, synaptic):
    """Fill row t + 1 of `synaptic`, [T + 1, F], with the synaptic current of step t of clip b."""
    for t in range(current.shape[1]):
        for f in range(current.shape[2]):
            synaptic[t + 1, f] = alpha[f] * synaptic[t, f] + current[b, t, f]


@kernel
def synaptic_backward(
    grad_spikes, membrane, current, slopes, tensors, reset, reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    """Do the backward pass of `Passes`; the tensors are α, β and θ."""
    alpha, beta, threshold = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    derivative, fired, entered, grad_out, grad_left = blocks.rooms(membrane)
    grad_synaptic = np.empty(features, membrane.dtype)
    left = np.empty((steps, features), membrane.dtype)
    synaptic = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for b in range(clips):
        blocks.surrogate_clip(b, surrogate, slopes, threshold, derivative)
        blocks.replay_left(b, reset, reset_delay, threshold, membrane, entered, fired, left)
        if learns:
            replay_synaptic(b, alpha, current, synaptic)
        grad_left[:] = zero
        grad_synaptic[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            blocks.load_step(b, t, grad_spikes, membrane, left, entered, fired, grad_out)
            blocks.undo_reset(
                reset, reset_delay, threshold, fired, entered, grad_out, grad_left, grads[2, b]
            )
            for f in range(features):
                through = grad_out[f] * derivative[t, f]
                was_reset = one if entered[f] - threshold[f] > zero else zero
                kept = one - was_reset if reset == ZERO else one
                dropped = was_reset if reset == SUBTRACT else zero
                grad_fired = (grad_left[f] + through) * kept
                grad_in = grad_fired + alpha[f] * grad_synaptic[f]
                grad_left[f] = beta[f] * grad_fired
                grad_synaptic[f] = grad_in
                grad_current[b, t, f] = grad_in
                if learns:
                    grads[0, b, f] += grad_in * synaptic[t, f]
                    grads[1, b, f] += grad_fired * entered[f]
                    grads[2, b, f] -= through + grad_fired * dropped


def plain_synaptic(current: Tensor, tensors: Tensors, dynamics: Dynamics) -> Charge:
    """Return how `synaptic_forward` charges."""
    alpha, beta, threshold = tensors
    synaptic = torch.zeros_like(current[:, 0])

    def charge(t: int, carried: Tensor, _spike: Tensor, was_reset: Tensor) -> Tensor:
        nonlocal synaptic
        synaptic = alpha * synaptic + current[:, t]
        return reset_by_spike(dynamics, threshold, beta * carried + synaptic, was_reset)

    return charge


SYNAPTIC_SCAN = Scan(
    rows=("alpha", "beta", "threshold"),
    states=("membrane", "synaptic current"),
    compiled=Passes(synaptic_forward, synaptic_backward),
    plain=plain_synaptic,
    triton="lif_triton",
    keeps_current=True,
)
