"""Leaky integrate-and-fire over time on a GPU, by Triton; of second order where α is given.

Without α what enters the membrane is I, else the synaptic current `i ← αi + I`. A reset to zero
takes that current away too, but not I: what `lif.py` and `synaptic.py` do.

Checked in Triton's interpreter on a CPU only, and never run on a GPU: see `triton_blocks`.
"""
# ruff: noqa: PLR0917 - one signature for all kernels, pointers by position

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports] - comes with CUDA builds of torch only
import triton.language as tl  # pyright: ignore[reportMissingImports] - likewise

from fnl.snn.kernels import triton_blocks as blocks
from fnl.snn.kernels.triton_blocks import SUBTRACT, ZERO, Kernels


@triton.jit
def forward_kernel(
    current, alpha, beta, threshold, spikes, membrane, counts, moments, steps, features, size,
    each, reset: tl.constexpr, reset_delay: tl.constexpr, save: tl.constexpr, record: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Step a block of neurons of one clip through time."""
    row, start, own, inside = blocks.place(steps, features, each, block)
    decay = tl.load(beta + own, mask=inside, other=0.0)
    theta = tl.load(threshold + own, mask=inside, other=0.0)
    synaptic_decay = decay
    if alpha is not None:
        synaptic_decay = tl.load(alpha + own, mask=inside, other=0.0)
    synaptic = tl.zeros([block], decay.dtype)
    carried = tl.zeros([block], decay.dtype)
    recorded = blocks.nothing_recorded(block)
    for t in range(steps):
        here = start + t * features
        drive = tl.load(current + here, mask=inside, other=0.0)
        was_reset = blocks.above(carried, theta)
        if alpha is not None:
            synaptic = synaptic_decay * synaptic + drive
            fired = decay * carried + synaptic
            if reset == ZERO:
                fired = fired - was_reset * fired
        elif reset == ZERO:
            fired = decay * ((1.0 - was_reset) * carried) + drive
        else:
            fired = decay * carried + drive
        if reset == SUBTRACT:
            fired = fired - was_reset * theta
        spike = blocks.above(fired, theta)
        left = blocks.membrane_left(carried, fired, theta, reset, reset_delay)
        recorded = blocks.keep(
            t, here, inside, recorded, spike, fired, carried, left, spikes, membrane, save, record
        )
        carried = left
    blocks.store_recorded(counts, moments, row, size, inside, recorded, carried, record)


@triton.jit
def sum_over_steps(grad_synaptic, current, synaptic_decay, start, steps, features, inside):
    """Return Σ_t dL/di[t] · i[t−1] of the synaptic current i: dL/dα."""
    tl.debug_barrier()  # another thread may load what one stored
    synaptic = tl.zeros_like(synaptic_decay)
    total = tl.zeros_like(synaptic_decay)
    for t in range(steps):
        here = start + t * features
        total += tl.load(grad_synaptic + here, mask=inside, other=0.0) * synaptic
        synaptic = synaptic_decay * synaptic + tl.load(current + here, mask=inside, other=0.0)
    return total


@triton.jit
def backward_kernel(
    grad_spikes, membrane, current, left, alpha, beta, threshold, grad_current, grads, steps,
    features, size, each, reset: tl.constexpr, same_step: tl.constexpr, kind: tl.constexpr,
    slope: tl.constexpr, second: tl.constexpr, learns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Take a block of neurons of one clip back through time.

    With `same_step`, for a reset in the spike's own step, `left` is room for the membrane that
    each step left, which was not saved; else it is the saved membrane itself.
    """
    row, start, own, inside = blocks.place(steps, features, each, block)
    decay = tl.load(beta + own, mask=inside, other=0.0)
    theta = tl.load(threshold + own, mask=inside, other=0.0)
    synaptic_decay = decay
    if alpha is not None:
        synaptic_decay = tl.load(alpha + own, mask=inside, other=0.0)
    if same_step:
        blocks.replay_left(membrane, left, theta, start, steps, features, inside, reset)
    grad_left = tl.zeros([block], decay.dtype)
    grad_synaptic = tl.zeros([block], decay.dtype)
    sum_beta = tl.zeros([block], decay.dtype)
    sum_threshold = tl.zeros([block], decay.dtype)
    for step in range(steps):
        t = steps - 1 - step
        here = start + t * features
        entered, through, grad_left, sum_threshold = blocks.step_back(
            grad_spikes, membrane, left, here, start, features, inside, grad_left, sum_threshold,
            theta, reset, same_step, kind, slope, second,
        )  # fmt: skip
        was_reset = blocks.above(entered, theta)
        grad_in = grad_left + through
        if reset == SUBTRACT:
            sum_threshold -= grad_in * was_reset
        kept = grad_in
        if reset == ZERO:
            kept = grad_in * (1.0 - was_reset)
        sum_beta += kept * entered
        grad_left = decay * kept
        if alpha is not None:
            grad_synaptic = kept + synaptic_decay * grad_synaptic
            grad_in = grad_synaptic
        tl.store(grad_current + here, grad_in, mask=inside)
    if learns:
        if alpha is not None:
            sum_alpha = sum_over_steps(
                grad_current, current, synaptic_decay, start, steps, features, inside
            )
            tl.store(grads + row, sum_alpha, mask=inside)
            grads += size
        tl.store(grads + row, sum_beta, mask=inside)
        tl.store(grads + size + row, sum_threshold, mask=inside)


KERNELS = Kernels(forward_kernel, backward_kernel, 3, lambda same_step, _learns: same_step)
