"""The scan of a neuron with two states and no reset, as it would stand in `fnl/snn/kernels/`.

A dendrite before the soma:

    d[t] = γ d[t−1] + I[t],    u[t] = β u[t−1] + (1 − β) d[t],    S[t] = H(u[t] − θ)
"""

# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fnl.snn.kernels import numba_blocks as blocks
from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.scan import Passes, Scan
from fnl.snn.kernels.statistics_numba import record_clip
from fnl.snn.kernels.torch_blocks import Charge, Tensors


@kernel
def dendritic_forward(current, tensors, _reset, _reset_delay, spikes, membrane, counts, moments):
    gamma, beta, threshold = tensors
    one, zero = blocks.literals(current)
    clips, steps, features = current.shape
    left = blocks.room_for_left(counts, current)
    dendrite, soma = np.empty(features, current.dtype), np.empty(features, current.dtype)
    for b in range(clips):
        dendrite[:] = zero
        soma[:] = zero
        for t in range(steps):
            for f in range(features):
                dendrite[f] = gamma[f] * dendrite[f] + current[b, t, f]
                soma[f] = beta[f] * soma[f] + (one - beta[f]) * dendrite[f]
                spikes[b, t, f] = one if soma[f] - threshold[f] > zero else zero
            blocks.keep(b, t, soma, soma, membrane, left)
        record_clip(b, spikes, left, counts, moments)


def plain_dendritic(current: Tensor, tensors: Tensors, _: Dynamics) -> Charge:
    gamma, beta, _threshold = tensors
    dendrite = torch.zeros_like(current[:, 0])

    def charge(t: int, soma: Tensor, _spike: Tensor, _was_reset: Tensor) -> Tensor:
        nonlocal dendrite
        dendrite = gamma * dendrite + current[:, t]
        return beta * soma + (1 - beta) * dendrite

    return charge


@kernel
def dendritic_backward(
    grad_spikes, membrane, current, slopes, tensors, _reset, _reset_delay, surrogate, learns,
    grad_current, grads,
):  # fmt: skip
    gamma, beta, threshold = tensors
    one, zero = blocks.literals(membrane)
    clips, steps, features = membrane.shape
    derivative, grad_soma, grad_dendrite, _, _ = blocks.rooms(membrane)
    dendrite = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for b in range(clips):
        if learns:
            for t in range(steps):
                for f in range(features):
                    dendrite[t + 1, f] = gamma[f] * dendrite[t, f] + current[b, t, f]
        blocks.surrogate_clip(b, surrogate, slopes, threshold, derivative)
        grad_soma[:] = zero
        grad_dendrite[:] = zero
        for t in range(steps - 1, -1, -1):
            for f in range(features):
                through = grad_spikes[b, t, f] * derivative[t, f]
                grad_soma[f] = through + beta[f] * grad_soma[f]
                grad_dendrite[f] = (one - beta[f]) * grad_soma[f] + gamma[f] * grad_dendrite[f]
                grad_current[b, t, f] = grad_dendrite[f]
                if learns:
                    before = membrane[b, t - 1, f] if t > 0 else zero
                    grads[0, b, f] += grad_dendrite[f] * dendrite[t, f]
                    grads[1, b, f] += grad_soma[f] * (before - dendrite[t + 1, f])
                    grads[2, b, f] -= through


DENDRITIC_SCAN = Scan(
    rows=("gamma", "beta", "threshold"),
    states=("membrane", "dendrite"),
    compiled=Passes(dendritic_forward, dendritic_backward),
    plain=plain_dendritic,
    keeps_current=True,
)
