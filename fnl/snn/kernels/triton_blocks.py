"""What the Triton kernels share: their blocks, the reset, surrogates, statistics, the launch.

One program steps a block of neurons of one clip through all of time, its state in registers.
Multiplications and additions are not fused, in the order of the PyTorch references, because
contracted arithmetic changes spikes against snnTorch: `COMPILER_OPTIONS`.

These kernels have been checked in Triton's interpreter on a CPU, and compiled for GPUs to look
at their instructions, but they have never run on a GPU: neither their results nor their speed
there are measured.
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

COMPILER_OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}
"""No fused multiply-add, in LLVM or in ptxas."""


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
def add_moments(t, before, left, total, square, lag, first, changes):
    """Return the statistics of the membrane after step t.

    Sums over steps of u, u² and u[t−1]u[t], and u[0], in float64; the number of steps in which it
    changed, of which the first always is one.
    """
    u = left.to(tl.float64)
    first = tl.where(t == 0, u, first)
    changes += tl.where(t == 0, 1, (left != before).to(tl.int32))
    return total + u, square + u * u, lag + before.to(tl.float64) * u, first, changes


@triton.jit
def store_moments(moments, row, size, inside, total, square, lag, first, last, changes):
    """Write the statistics of one clip to `moments`, [6, B, F] with B F = `size`."""
    tl.store(moments + row, total, mask=inside)
    tl.store(moments + size + row, square, mask=inside)
    tl.store(moments + 2 * size + row, lag, mask=inside)
    tl.store(moments + 3 * size + row, first, mask=inside)
    tl.store(moments + 4 * size + row, last.to(tl.float64), mask=inside)
    tl.store(moments + 5 * size + row, changes.to(tl.float64), mask=inside)


@triton.jit
def replay_left(membrane, left, theta, start, steps, features, inside, reset: tl.constexpr):
    """Fill `left` with the membrane that each step left, for a reset in the spike's own step."""
    carried = tl.zeros_like(theta)
    for t in range(steps):
        here = start + t * features
        fired = tl.load(membrane + here, mask=inside, other=0.0)
        carried = membrane_left(carried, fired, theta, reset, False)
        tl.store(left + here, carried, mask=inside)
    tl.debug_barrier()  # another thread may load what one stored


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
            *arguments, **modes, block=block, num_warps=warps, **COMPILER_OPTIONS
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
    """Return spike counts [B, F] and moments of each clip [6, B, F] for a kernel to fill."""
    clips, _, features = current.shape
    counts = current.new_empty(clips, features, dtype=torch.int32)
    return counts, current.new_empty(6, clips, features, dtype=torch.float64)
