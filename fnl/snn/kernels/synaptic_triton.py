"""Leaky integrate-and-fire with a synaptic current (second order) on a GPU, by Triton.

Checked in Triton's interpreter on a CPU only, and never run on a GPU: see `triton_blocks`.
"""
# ruff: noqa: PLR0917 - kernels take pointers by position

from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports] - comes with CUDA builds of torch only
import triton.language as tl  # pyright: ignore[reportMissingImports] - likewise
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.scan import Recorded
from fnl.snn.kernels.triton_blocks import (
    SUBTRACT,
    ZERO,
    above,
    add_moments,
    launch,
    membrane_left,
    place,
    replay_left,
    room_for_statistics,
    store_moments,
    surrogate_derivative,
    surrogate_modes,
)


@triton.jit
def forward_kernel(
    current,
    alpha,
    beta,
    threshold,
    spikes,
    membrane,
    counts,
    moments,
    steps,
    features,
    size,
    reset: tl.constexpr,
    reset_delay: tl.constexpr,
    save: tl.constexpr,
    record: tl.constexpr,
    block: tl.constexpr,
):
    """Step a block of neurons of one clip through time; arrays as in `lif_triton`."""
    row, start, neuron, inside = place(steps, features, block)
    synaptic_decay = tl.load(alpha + neuron, mask=inside, other=0.0)
    decay = tl.load(beta + neuron, mask=inside, other=0.0)
    theta = tl.load(threshold + neuron, mask=inside, other=0.0)
    synaptic = tl.zeros([block], decay.dtype)
    carried = tl.zeros([block], decay.dtype)
    fires = tl.zeros([block], tl.int32)
    total = tl.zeros([block], tl.float64)
    square = tl.zeros([block], tl.float64)
    lag = tl.zeros([block], tl.float64)
    first = tl.zeros([block], tl.float64)
    changes = tl.zeros([block], tl.int32)
    for t in range(steps):
        here = start + t * features
        synaptic = synaptic_decay * synaptic + tl.load(current + here, mask=inside, other=0.0)
        was_reset = above(carried, theta)
        fired = decay * carried + synaptic
        if reset == SUBTRACT:
            fired = fired - was_reset * theta
        elif reset == ZERO:
            fired = fired - was_reset * fired
        spike = above(fired, theta)
        tl.store(spikes + here, spike, mask=inside)
        if save:
            tl.store(membrane + here, fired, mask=inside)
        left = membrane_left(carried, fired, theta, reset, reset_delay)
        if record:
            fires += spike.to(tl.int32)
            total, square, lag, first, changes = add_moments(
                t, carried, left, total, square, lag, first, changes
            )
        carried = left
    if record:
        tl.store(counts + row, fires, mask=inside)
        last = carried
        store_moments(moments, row, size, inside, total, square, lag, first, last, changes)


@triton.jit
def sum_over_steps(grad_synaptic, current, synaptic_decay, start, steps, features, inside):
    """Return Σ_t dL/di[t] · i[t−1] of the synaptic current i: dL/dα."""
    synaptic = tl.zeros_like(synaptic_decay)
    total = tl.zeros_like(synaptic_decay)
    for t in range(steps):
        here = start + t * features
        total += tl.load(grad_synaptic + here, mask=inside, other=0.0) * synaptic
        synaptic = synaptic_decay * synaptic + tl.load(current + here, mask=inside, other=0.0)
    return total


@triton.jit
def backward_kernel(
    grad_spikes,
    membrane,
    current,
    left,
    alpha,
    beta,
    threshold,
    grad_current,
    grad_alpha,
    grad_beta,
    grad_threshold,
    steps,
    features,
    reset: tl.constexpr,
    same_step: tl.constexpr,
    kind: tl.constexpr,
    slope: tl.constexpr,
    second: tl.constexpr,
    learns: tl.constexpr,
    block: tl.constexpr,
):
    """Take a block of neurons of one clip back through time; arrays as in `lif_triton`."""
    row, start, neuron, inside = place(steps, features, block)
    synaptic_decay = tl.load(alpha + neuron, mask=inside, other=0.0)
    decay = tl.load(beta + neuron, mask=inside, other=0.0)
    theta = tl.load(threshold + neuron, mask=inside, other=0.0)
    if same_step:
        replay_left(membrane, left, theta, start, steps, features, inside, reset)
    grad_left = tl.zeros([block], decay.dtype)
    grad_synaptic = tl.zeros([block], decay.dtype)
    sum_beta = tl.zeros([block], decay.dtype)
    sum_threshold = tl.zeros([block], decay.dtype)
    for step in range(steps):
        t = steps - 1 - step
        here = start + t * features
        fired = tl.load(membrane + here, mask=inside, other=0.0)
        later = inside & (here >= start + features)  # than the first step
        entered = tl.load(left + here - features, mask=later, other=0.0)
        was_reset = above(entered, theta)
        grad_out = tl.load(grad_spikes + here, mask=inside, other=0.0)
        if same_step:
            resets = above(fired, theta) - was_reset
            if reset == SUBTRACT:
                grad_out -= grad_left * theta
                sum_threshold -= grad_left * resets
            else:
                grad_out -= grad_left * fired
                grad_left *= 1.0 - resets
        through = grad_out * surrogate_derivative(fired - theta, kind, slope, second)
        grad_fired = grad_left + through
        sum_threshold -= through
        if reset == SUBTRACT:
            sum_threshold -= grad_fired * was_reset
        elif reset == ZERO:
            grad_fired = grad_fired * (1.0 - was_reset)
        sum_beta += grad_fired * entered
        grad_left = decay * grad_fired
        grad_synaptic = grad_fired + synaptic_decay * grad_synaptic
        tl.store(grad_current + here, grad_synaptic, mask=inside)
    if learns:
        tl.store(grad_beta + row, sum_beta, mask=inside)
        tl.store(grad_threshold + row, sum_threshold, mask=inside)
        tl.debug_barrier()  # another thread may load what one stored
        sum_alpha = sum_over_steps(
            grad_current, current, synaptic_decay, start, steps, features, inside
        )
        tl.store(grad_alpha + row, sum_alpha, mask=inside)


def synaptic_forward(
    current: Tensor,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    save: bool,
    record: bool,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Do `synaptic.synaptic_forward`."""
    spikes = torch.empty_like(current)
    membrane = torch.empty_like(current) if save else None
    counts, moments = room_for_statistics(current) if record else (None, None)
    launch(
        forward_kernel,
        current.shape,
        *(current, alpha, beta, threshold, spikes, membrane, counts, moments),
        *current.shape[1:],
        current.shape[0] * current.shape[2],
        reset=int(dynamics.reset),
        reset_delay=dynamics.reset_delay,
        save=save,
        record=record,
    )
    if counts is None or moments is None:
        return spikes, membrane, None
    return spikes, membrane, (counts, moments.sum(1))


def synaptic_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    learns: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do `synaptic.synaptic_backward`; without `current` nothing is learned."""
    clips, steps, features = membrane.shape
    same_step = not dynamics.reset_delay and dynamics.reset is not Reset.NONE
    left = torch.empty_like(membrane) if same_step else membrane
    grad_current = torch.empty_like(membrane)
    grad_alpha, grad_beta, grad_threshold = membrane.new_zeros(3, clips, features)
    launch(
        backward_kernel,
        membrane.shape,
        *(grad_spikes.contiguous(), membrane, current, left, alpha, beta, threshold),
        *(grad_current, grad_alpha, grad_beta, grad_threshold, steps, features),
        reset=int(dynamics.reset),
        same_step=same_step,
        learns=learns and current is not None,
        **surrogate_modes(dynamics),
    )
    return grad_current, grad_alpha, grad_beta, grad_threshold
