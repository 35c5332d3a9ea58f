"""Adaptive leaky integrate-and-fire over time, compiled and in plain PyTorch.

`u ← αu + (1 − α)(I − w) − θS, w ← βw + au + bS`, the reset in the step after the spike.
"""
# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.numba_blocks import SUBTRACT, ZERO
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors


@kernel
def adaptive_forward(current, tensors, reset, _reset_delay, spikes, membrane, counts, moments):
    """Do the forward pass of `Passes`; the tensors are α, β, a, b and θ."""
    alpha, beta, a, b, threshold = tensors
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    before = np.empty(features, current.dtype)
    spiked = np.empty(features, current.dtype)
    adaptation = np.empty(features, current.dtype)
    left = blocks.room_for_left(counts, current)
    for clip in range(clips):
        carried[:] = zero
        spiked[:] = zero
        adaptation[:] = zero
        for t in range(steps):
            before[:] = carried
            for f in range(features):
                s = spiked[f]
                kept = one - s if reset == ZERO else one
                dropped = s if reset == SUBTRACT else zero
                drive = (one - alpha[f]) * (current[clip, t, f] - adaptation[f])
                carried[f] = alpha[f] * (kept * before[f]) + drive - dropped * threshold[f]
                adaptation[f] = beta[f] * adaptation[f] + a[f] * before[f] + b[f] * s
            for f in range(features):
                spiked[f] = one if carried[f] - threshold[f] > zero else zero
                spikes[clip, t, f] = spiked[f]
            blocks.keep(clip, t, carried, carried, membrane, left)
        record_clip(clip, spikes, left, counts, moments)


@kernel
def replay_adaptation(clip, tensors, membrane, entered, spiked, adaptation):
    """Fill row t of `adaptation`, [T + 1, F], with w[t−1]; the rows [F] are room to work in."""
    _, beta, a, b, threshold = tensors
    one, zero = blocks.literals(membrane)
    entered[:] = zero
    spiked[:] = zero
    for t in range(membrane.shape[1]):
        for f in range(membrane.shape[2]):
            adapted = beta[f] * adaptation[t, f] + a[f] * entered[f] + b[f] * spiked[f]
            adaptation[t + 1, f] = adapted
            entered[f] = membrane[clip, t, f]
            spiked[f] = one if entered[f] - threshold[f] > zero else zero


@kernel
def adaptive_backward(
    grad_spikes, membrane, current, slopes, tensors, reset, _reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    """Do the backward pass of `Passes`; the tensors are α, β, a, b and θ."""
    alpha, beta, a, b, threshold = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    # grad_u and grad_w: dL/du and dL/dw of the step after
    derivative, entered, spiked, grad_u, grad_w = blocks.rooms(membrane)
    adaptation = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for clip in range(clips):
        blocks.surrogate_clip(clip, surrogate, slopes, threshold, derivative)
        if learns:
            replay_adaptation(clip, tensors, membrane, entered, spiked, adaptation)
        grad_u[:] = zero
        grad_w[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            for f in range(features):
                s = one if membrane[clip, t, f] - threshold[f] > zero else zero
                kept = one - s if reset == ZERO else one
                through = (grad_spikes[clip, t, f] + b[f] * grad_w[f]) * derivative[t, f]
                left = alpha[f] * kept * grad_u[f] + a[f] * grad_w[f]
                grad_w[f] = beta[f] * grad_w[f] - (one - alpha[f]) * grad_u[f]
                grad_u[f] = left + through
                grad_current[clip, t, f] = (one - alpha[f]) * grad_u[f]
                if learns:
                    grads[4, clip, f] -= through
            if learns:
                entered[:] = zero
                spiked[:] = zero
                if t > 0:
                    for f in range(features):
                        entered[f] = membrane[clip, t - 1, f]
                        spiked[f] = one if entered[f] - threshold[f] > zero else zero
                for f in range(features):
                    kept = one - spiked[f] if reset == ZERO else one
                    dropped = spiked[f] if reset == SUBTRACT else zero
                    drive = current[clip, t, f] - adaptation[t, f]
                    grads[0, clip, f] += grad_u[f] * (kept * entered[f] - drive)
                    grads[1, clip, f] += grad_w[f] * adaptation[t, f]
                    grads[2, clip, f] += grad_w[f] * entered[f]
                    grads[3, clip, f] += grad_w[f] * spiked[f]
                    grads[4, clip, f] -= grad_u[f] * dropped


def plain_adaptive(current: Tensor, tensors: Tensors, dynamics: Dynamics) -> Charge:
    """Return how `adaptive_forward` charges."""
    alpha, beta, a, b, threshold = tensors
    adaptation = torch.zeros_like(current[:, 0])

    def charge(t: int, before: Tensor, spike: Tensor, was_reset: Tensor) -> Tensor:
        nonlocal adaptation
        kept = (1 - was_reset) * before if dynamics.reset is Reset.ZERO else before
        after = alpha * kept + (1 - alpha) * (current[:, t] - adaptation)
        adaptation = beta * adaptation + a * before + b * spike
        return after - was_reset * threshold if dynamics.reset is Reset.SUBTRACT else after

    return charge


ADAPTIVE_SCAN = Scan(
    rows=("alpha", "beta", "a", "b", "threshold"),
    states=("membrane", "adaptation"),
    compiled=Passes(adaptive_forward, adaptive_backward),
    plain=plain_adaptive,
    triton="adaptive_triton",
    keeps_current=True,
    always_delays=True,
)
