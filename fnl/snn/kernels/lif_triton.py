"""Leaky integrate-and-fire over time on a GPU, by Triton.

One program steps a block of neurons of one clip through all of time, its state in registers.
Multiplications and additions are not fused, in the order of `lif_torch`, because contracted
arithmetic changes spikes against snnTorch: `enable_fp_fusion=False` reaches both LLVM and ptxas.

These kernels have been checked in Triton's interpreter on a CPU, and their compilation for
GPUs looked at, but they have never run on a GPU: neither their results nor their speed there
are measured.
"""
# ruff: noqa: PLR0917 - kernels take pointers by position

from __future__ import annotations

import math
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports] - comes with CUDA builds of torch only
import triton.language as tl  # pyright: ignore[reportMissingImports] - likewise
from torch import Tensor

from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.scan import Recorded
from fnl.snn.surrogates import SurrogateKind

SUBTRACT = tl.constexpr(int(Reset.SUBTRACT))
ZERO = tl.constexpr(int(Reset.ZERO))
STRAIGHT_THROUGH = tl.constexpr(int(SurrogateKind.STRAIGHT_THROUGH))
TRIANGULAR = tl.constexpr(int(SurrogateKind.TRIANGULAR))
FAST_SIGMOID = tl.constexpr(int(SurrogateKind.FAST_SIGMOID))
ATAN = tl.constexpr(int(SurrogateKind.ATAN))
SIGMOID = tl.constexpr(int(SurrogateKind.SIGMOID))
HEAVISIDE = tl.constexpr(int(SurrogateKind.HEAVISIDE))
SPIKE_RATE_ESCAPE = tl.constexpr(int(SurrogateKind.SPIKE_RATE_ESCAPE))
HALF_PI = tl.constexpr(math.pi / 2)

LARGEST_BLOCK = 128
"""Neurons a program, one a thread."""


@triton.jit
def above(membrane, threshold):
    """Return H(U − θ) in the membrane's dtype."""
    return (membrane - threshold > 0).to(membrane.dtype)


@triton.jit
def membrane_left(entered, fired, threshold, reset: tl.constexpr, reset_delay: tl.constexpr):
    """Return the membrane that a step leaves, from those it started from and compared with θ."""
    left = fired
    if not reset_delay:
        if reset == SUBTRACT:
            left = fired - (above(fired, threshold) - above(entered, threshold)) * threshold
        elif reset == ZERO:
            left = fired - (above(fired, threshold) - above(entered, threshold)) * fired
    return left


@triton.jit
def surrogate_derivative(x, kind: tl.constexpr, slope: tl.constexpr, second: tl.constexpr):
    """Return dS/dU at x = U − θ; formulas as in `fnl.snn.surrogates`."""
    one = tl.full(x.shape, 1.0, x.dtype)
    if kind == STRAIGHT_THROUGH:
        derivative = one
    elif kind == TRIANGULAR:
        derivative = tl.where(x >= 0, -one, one) * slope
    elif kind == FAST_SIGMOID:
        d = slope * tl.abs(x) + 1.0
        derivative = one / (d * d)
    elif kind == ATAN:
        d = (HALF_PI * slope) * x
        derivative = (slope / 2) / (1.0 + d * d)
    elif kind == SIGMOID:
        decay = tl.exp(-slope * tl.abs(x))
        d = decay + 1.0
        derivative = slope * decay / (d * d)
    elif kind == HEAVISIDE:
        derivative = (x > 0).to(x.dtype)
    elif kind == SPIKE_RATE_ESCAPE:
        derivative = slope * tl.exp(-second * tl.abs(x - 1.0))
    else:  # the sparse fast sigmoid
        d = slope * tl.abs(x) + 1.0
        derivative = (x > second).to(x.dtype) / (d * d)
    return derivative


@triton.jit
def place(steps, features, block: tl.constexpr):
    """Return this program's place in [B, F], in [B, T, F] at t = 0, its neurons and their mask."""
    clip = tl.program_id(0).to(tl.int64)
    neuron = tl.program_id(1) * block + tl.arange(0, block)
    return clip * features + neuron, clip * steps * features + neuron, neuron, neuron < features


@triton.jit
def add_moments(t, before, left, total, square, lag, first):
    """Return the sums over steps of u, u² and u[t−1]u[t], and u[0], after step t, in float64."""
    u = left.to(tl.float64)
    first = tl.where(t == 0, u, first)
    return total + u, square + u * u, lag + before.to(tl.float64) * u, first


@triton.jit
def store_moments(moments, row, size, inside, total, square, lag, first, last):
    """Write the sums over steps of one clip to `moments`, [5, B, F] with B F = `size`."""
    tl.store(moments + row, total, mask=inside)
    tl.store(moments + size + row, square, mask=inside)
    tl.store(moments + 2 * size + row, lag, mask=inside)
    tl.store(moments + 3 * size + row, first, mask=inside)
    tl.store(moments + 4 * size + row, last.to(tl.float64), mask=inside)


@triton.jit
def forward_kernel(
    current,
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
    """Step a block of neurons of one clip through time; arrays as in `lif_numba`.

    `moments` is [5, B, F], of each clip; arrays not asked for by `save` and `record` are not
    touched.
    """
    row, start, neuron, inside = place(steps, features, block)
    decay = tl.load(beta + neuron, mask=inside, other=0.0)
    theta = tl.load(threshold + neuron, mask=inside, other=0.0)
    carried = tl.zeros([block], decay.dtype)
    fires = tl.zeros([block], tl.int32)
    total = tl.zeros([block], tl.float64)
    square = tl.zeros([block], tl.float64)
    lag = tl.zeros([block], tl.float64)
    first = tl.zeros([block], tl.float64)
    for t in range(steps):
        here = start + t * features
        drive = tl.load(current + here, mask=inside, other=0.0)
        was_reset = above(carried, theta)
        if reset == SUBTRACT:
            fired = decay * carried + drive - was_reset * theta
        elif reset == ZERO:
            fired = decay * ((1.0 - was_reset) * carried) + drive
        else:
            fired = decay * carried + drive
        spike = above(fired, theta)
        tl.store(spikes + here, spike, mask=inside)
        if save:
            tl.store(membrane + here, fired, mask=inside)
        left = membrane_left(carried, fired, theta, reset, reset_delay)
        if record:
            fires += spike.to(tl.int32)
            total, square, lag, first = add_moments(t, carried, left, total, square, lag, first)
        carried = left
    if record:
        tl.store(counts + row, fires, mask=inside)
        store_moments(moments, row, size, inside, total, square, lag, first, carried)


@triton.jit
def backward_kernel(
    grad_spikes,
    membrane,
    left,
    beta,
    threshold,
    grad_current,
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
    """Take a block of neurons of one clip back through time; arrays as in `lif_numba`.

    With `same_step`, for a reset in the spike's own step, `left` is room for the membrane that
    each step left, [B, T, F], which was not saved; else it is the saved membrane itself.
    """
    row, start, neuron, inside = place(steps, features, block)
    decay = tl.load(beta + neuron, mask=inside, other=0.0)
    theta = tl.load(threshold + neuron, mask=inside, other=0.0)
    if same_step:
        carried = tl.zeros([block], decay.dtype)
        for t in range(steps):
            here = start + t * features
            fired = tl.load(membrane + here, mask=inside, other=0.0)
            carried = membrane_left(carried, fired, theta, reset, False)
            tl.store(left + here, carried, mask=inside)
        tl.debug_barrier()  # another thread may load what one stored
    grad_left = tl.zeros([block], decay.dtype)
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
        grad_in = grad_left + through
        tl.store(grad_current + here, grad_in, mask=inside)
        kept = grad_in
        if reset == ZERO:
            kept = grad_in * (1.0 - was_reset)
        sum_beta += kept * entered
        sum_threshold -= through
        if reset == SUBTRACT:
            sum_threshold -= grad_in * was_reset
        grad_left = decay * kept
    if learns:
        tl.store(grad_beta + row, sum_beta, mask=inside)
        tl.store(grad_threshold + row, sum_threshold, mask=inside)


def launch(kernel: Any, shape: torch.Size, *arguments: Any, **modes: Any) -> None:
    """Run a kernel on every block of neurons of every clip.

    Args:
        kernel: takes `arguments`, the first a tensor, `modes`, and the size of a `block`.
        shape: [B, T, F].
        arguments: by position.
        modes: by name; the kernel is compiled for each of their values.
    """
    clips, _, features = shape
    if clips == 0:
        return
    block = min(LARGEST_BLOCK, triton.next_power_of_2(features))
    warps = max(1, block // 32)
    with torch.cuda.device_of(arguments[0]):
        kernel[clips, triton.cdiv(features, block)](
            *arguments, **modes, block=block, num_warps=warps, enable_fp_fusion=False
        )


def surrogate_modes(dynamics: Dynamics) -> dict[str, Any]:
    """Return what `surrogate_derivative` takes, as modes of `launch`."""
    surrogate = dynamics.surrogate
    return {
        "kind": int(surrogate.kind),
        "slope": float(surrogate.slope),
        "second": float(surrogate.second),
    }


def room_for_statistics(current: Tensor) -> tuple[Tensor, Tensor]:
    """Return spike counts [B, F] and moments of each clip [5, B, F] for a kernel to fill."""
    clips, _, features = current.shape
    counts = current.new_empty(clips, features, dtype=torch.int32)
    return counts, current.new_empty(5, clips, features, dtype=torch.float64)


def lif_forward(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    save: bool,
    record: bool,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Do `lif.lif_forward`."""
    spikes = torch.empty_like(current)
    membrane = torch.empty_like(current) if save else None
    counts, moments = room_for_statistics(current) if record else (None, None)
    launch(
        forward_kernel,
        current.shape,
        *(current, beta, threshold, spikes, membrane, counts, moments),
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


def lif_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    learns: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do `lif.lif_backward`."""
    clips, steps, features = membrane.shape
    same_step = not dynamics.reset_delay and dynamics.reset is not Reset.NONE
    left = torch.empty_like(membrane) if same_step else membrane
    grad_current = torch.empty_like(membrane)
    grad_beta, grad_threshold = membrane.new_zeros(2, clips, features)
    launch(
        backward_kernel,
        membrane.shape,
        *(grad_spikes.contiguous(), membrane, left, beta, threshold),
        *(grad_current, grad_beta, grad_threshold, steps, features),
        reset=int(dynamics.reset),
        same_step=same_step,
        learns=learns,
        **surrogate_modes(dynamics),
    )
    return grad_current, grad_beta, grad_threshold
