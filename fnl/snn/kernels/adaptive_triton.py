"""Adaptive leaky integrate-and-fire over time on a GPU, by Triton.

Checked in Triton's interpreter on a CPU only, and never run on a GPU: see `triton_blocks`.
"""
# ruff: noqa: ARG001, PLR0917 - one signature for all kernels, pointers by position

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports] - comes with CUDA builds of torch only
import triton.language as tl  # pyright: ignore[reportMissingImports] - likewise

from fnl.snn.kernels import triton_blocks as blocks
from fnl.snn.kernels.triton_blocks import SUBTRACT, ZERO, Kernels


@triton.jit
def load_rows(alpha, beta, a, b, threshold, own, inside):
    """Return the parameters of a block of neurons."""
    return (
        tl.load(alpha + own, mask=inside, other=0.0),
        tl.load(beta + own, mask=inside, other=0.0),
        tl.load(a + own, mask=inside, other=0.0),
        tl.load(b + own, mask=inside, other=0.0),
        tl.load(threshold + own, mask=inside, other=0.0),
    )


@triton.jit
def forward_kernel(
    current, alpha, beta, a, b, threshold, spikes, membrane, counts, moments, steps, features,
    size, each, reset: tl.constexpr, reset_delay: tl.constexpr, save: tl.constexpr,
    record: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Step a block of neurons of one clip through time."""
    row, start, own, inside = blocks.place(steps, features, each, block)
    decay, adaptation_decay, by_membrane, by_spike, theta = load_rows(
        alpha, beta, a, b, threshold, own, inside
    )
    before = tl.zeros([block], decay.dtype)
    spike = tl.zeros([block], decay.dtype)
    adaptation = tl.zeros([block], decay.dtype)
    recorded = blocks.nothing_recorded(block)
    for t in range(steps):
        here = start + t * features
        drive = (1.0 - decay) * (tl.load(current + here, mask=inside, other=0.0) - adaptation)
        if reset == ZERO:
            after = decay * ((1.0 - spike) * before) + drive
        elif reset == SUBTRACT:
            after = decay * before + drive - spike * theta
        else:
            after = decay * before + drive
        adaptation = adaptation_decay * adaptation + by_membrane * before + by_spike * spike
        spike = blocks.above(after, theta)
        recorded = blocks.keep(
            t, here, inside, recorded, spike, after, before, after, spikes, membrane, save, record
        )
        before = after
    blocks.store_recorded(counts, moments, row, size, inside, recorded, before, record)


@triton.jit
def replay_adaptation(
    membrane, adapted, decay, by_membrane, by_spike, theta, start, steps, features, inside
):
    """Fill `adapted`, [B, T, F], with the adaptation before each step."""
    adaptation = tl.zeros_like(theta)
    entered = tl.zeros_like(theta)
    spiked = tl.zeros_like(theta)
    for t in range(steps):
        here = start + t * features
        tl.store(adapted + here, adaptation, mask=inside)
        # here `entered` and `spiked` are still those of step t − 1
        adaptation = decay * adaptation + by_membrane * entered + by_spike * spiked
        entered = tl.load(membrane + here, mask=inside, other=0.0)
        spiked = blocks.above(entered, theta)
    tl.debug_barrier()  # another thread may load what one stored


@triton.jit
def backward_kernel(
    grad_spikes, membrane, current, adapted, alpha, beta, a, b, threshold, grad_current, grads,
    steps, features, size, each, reset: tl.constexpr, same_step: tl.constexpr, kind: tl.constexpr,
    slope: tl.constexpr, second: tl.constexpr, learns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Take a block of neurons of one clip back through time.

    Where something is learned, `adapted` is room for the adaptation before each step.
    """
    row, start, own, inside = blocks.place(steps, features, each, block)
    decay, adaptation_decay, by_membrane, by_spike, theta = load_rows(
        alpha, beta, a, b, threshold, own, inside
    )
    zero = tl.zeros([block], decay.dtype)
    if learns:
        replay_adaptation(
            membrane, adapted, adaptation_decay, by_membrane, by_spike, theta, start, steps,
            features, inside,
        )  # fmt: skip
    grad_u = zero  # dL/du of the step after
    grad_w = zero  # dL/dw of the step after
    sum_alpha = zero
    sum_beta = zero
    sum_a = zero
    sum_b = zero
    sum_threshold = zero
    for step in range(steps):
        t = steps - 1 - step
        here = start + t * features
        u = tl.load(membrane + here, mask=inside, other=0.0)
        grad_spike = tl.load(grad_spikes + here, mask=inside, other=0.0) + by_spike * grad_w
        through = grad_spike * blocks.surrogate_derivative(u - theta, kind, slope, second)
        left = decay * grad_u
        if reset == ZERO:
            left = decay * (1.0 - blocks.above(u, theta)) * grad_u
        left += by_membrane * grad_w
        grad_w = adaptation_decay * grad_w - (1.0 - decay) * grad_u
        grad_u = left + through
        tl.store(grad_current + here, (1.0 - decay) * grad_u, mask=inside)
        if learns:
            later = inside & (here >= start + features)  # than the first step
            entered = tl.load(membrane + here - features, mask=later, other=0.0)
            spiked = tl.where(later, blocks.above(entered, theta), zero)
            adaptation = tl.load(adapted + here, mask=inside, other=0.0)
            drive = tl.load(current + here, mask=inside, other=0.0) - adaptation
            sum_threshold -= through
            if reset == ZERO:
                sum_alpha += grad_u * ((1.0 - spiked) * entered - drive)
            else:
                sum_alpha += grad_u * (entered - drive)
            if reset == SUBTRACT:
                sum_threshold -= grad_u * spiked
            sum_beta += grad_w * adaptation
            sum_a += grad_w * entered
            sum_b += grad_w * spiked
    if learns:
        tl.store(grads + row, sum_alpha, mask=inside)
        tl.store(grads + size + row, sum_beta, mask=inside)
        tl.store(grads + 2 * size + row, sum_a, mask=inside)
        tl.store(grads + 3 * size + row, sum_b, mask=inside)
        tl.store(grads + 4 * size + row, sum_threshold, mask=inside)


KERNELS = Kernels(forward_kernel, backward_kernel, 5, lambda _same_step, learns: learns)
