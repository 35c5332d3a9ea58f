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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
def place(steps, features, each, block: tl.constexpr):
    """Return this program's place in [B, F], in [B, T, F] at t = 0, in rows [K, F], and the mask.

    Clips fall into K clients, `each` clips a client.
    """
    clip = tl.program_id(0).to(tl.int64)
    neuron = tl.program_id(1) * block + tl.arange(0, block)
    inside = neuron < features
    own = clip // each * features + neuron
    return clip * features + neuron, clip * steps * features + neuron, own, inside


@triton.jit
def nothing_recorded(block: tl.constexpr):
    """Return statistics of no steps: spikes, Σu, Σu², Σu[t−1]u[t], u[0] and changes, each [block].

    The moments are those of `scan.Recorded`, but for the last membrane, in float64.
    """
    none = tl.zeros([block], tl.int32)
    zero = tl.zeros([block], tl.float64)
    return none, zero, zero, zero, zero, none


@triton.jit
def keep(t, here, inside, recorded, spike, fired, before, left, spikes, membrane,
         save: tl.constexpr, record: tl.constexpr):  # fmt: skip
    """Store what is kept of step t; return the statistics with it."""
    tl.store(spikes + here, spike, mask=inside)
    if save:
        tl.store(membrane + here, fired, mask=inside)
    fires, total, square, lag, first, changes = recorded
    if record:
        u = left.to(tl.float64)
        fires += spike.to(tl.int32)
        total += u
        square += u * u
        lag += before.to(tl.float64) * u
        first = tl.where(t == 0, u, first)
        changes += tl.where(t == 0, 1, (left != before).to(tl.int32))
    return fires, total, square, lag, first, changes


@triton.jit
def store_recorded(counts, moments, row, size, inside, recorded, last, record: tl.constexpr):
    """Write one clip's statistics to `counts` [B, F] and `moments` [6, B, F], B F = `size`."""
    if record:
        fires, total, square, lag, first, changes = recorded
        tl.store(counts + row, fires, mask=inside)
        tl.store(moments + row, total, mask=inside)
        tl.store(moments + size + row, square, mask=inside)
        tl.store(moments + 2 * size + row, lag, mask=inside)
        tl.store(moments + 3 * size + row, first, mask=inside)
        tl.store(moments + 4 * size + row, last.to(tl.float64), mask=inside)
        tl.store(moments + 5 * size + row, changes.to(tl.float64), mask=inside)


@triton.jit
def step_back(grad_spikes, membrane, left, here, start, features, inside, grad_left, sum_threshold,
              theta, reset: tl.constexpr, same_step: tl.constexpr, kind: tl.constexpr,
              slope: tl.constexpr, second: tl.constexpr):  # fmt: skip
    """Go back through the spike of a step, and through its own reset with `same_step`.

    Returns the membrane that the step started from, what reaches the one compared with θ through
    the spike, the gradient of the one left as that of the one compared, and the sum for θ.
    """
    fired = tl.load(membrane + here, mask=inside, other=0.0)
    later = inside & (here >= start + features)  # than the first step
    entered = tl.load(left + here - features, mask=later, other=0.0)
    grad_out = tl.load(grad_spikes + here, mask=inside, other=0.0)
    if same_step:
        resets = above(fired, theta) - above(entered, theta)
        if reset == SUBTRACT:
            grad_out -= grad_left * theta
            sum_threshold -= grad_left * resets
        else:
            grad_out -= grad_left * fired
            grad_left *= 1.0 - resets
    through = grad_out * surrogate_derivative(fired - theta, kind, slope, second)
    return entered, through, grad_left, sum_threshold - through


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


def clips_a_client(tensors: Sequence[Tensor], clips: int) -> int:
    """Return how many of the clips have the same rows: all, of rows [F]."""
    return clips if tensors[0].ndim == 1 else clips // max(1, len(tensors[0]))


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


@dataclass(frozen=True)
class Kernels:
    """The passes of a kind of neuron, as `Scan.forward` and `Scan.backward` want them.

    Attributes:
        forward_kernel: takes I, the tensors, spikes, membrane, counts, moments of each clip
            [6, B, F], T, F, B F and clips a client; arrays not asked for by `save` and `record` are
            not touched.
        backward_kernel: takes dL/dS, membrane, I, room, the tensors, dL/dI, the gradients of the
            rows [R, B, F], T, F, B F and clips a client.
        rows: how many tensors they take; None stands for those that a kind of neuron lacks, which
            come first.
        needs_room: whether `backward_kernel` needs room to work in, [B, T, F], given whether the
            reset acts in the spike's own step and whether something is learned; else the room is
            the membrane itself.
    """

    forward_kernel: Any
    backward_kernel: Any
    rows: int
    needs_room: Callable[[bool, bool], bool]

    def forward(
        self,
        current: Tensor,
        tensors: Sequence[Tensor],
        dynamics: Dynamics,
        *,
        save: bool,
        record: bool,
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None]:
        """Do `Scan.forward`."""
        clips, steps, features = current.shape
        spikes = torch.empty_like(current)
        membrane = torch.empty_like(current) if save else None
        counts = current.new_empty(clips, features, dtype=torch.int32) if record else None
        moments = current.new_empty(6, clips, features, dtype=torch.float64) if record else None
        launch(
            self.forward_kernel,
            current.shape,
            *(current, *self._all(tensors), spikes, membrane, counts, moments),
            *(steps, features, clips * features, clips_a_client(tensors, clips)),
            reset=int(dynamics.reset),
            reset_delay=dynamics.reset_delay,
            save=save,
            record=record,
        )
        if counts is None or moments is None:
            return spikes, membrane, None
        return spikes, membrane, (counts, moments.sum(1))

    def backward(
        self, grad_spikes: Tensor, membrane: Tensor, current: Tensor | None,
        tensors: Sequence[Tensor], dynamics: Dynamics, *, learns: bool,
    ) -> tuple[Tensor, Sequence[Tensor]]:  # fmt: skip
        """Do `Scan.backward`."""
        clips, steps, features = membrane.shape
        same_step = dynamics.acts_at_once
        needed = self.needs_room(same_step, learns)
        room = torch.empty_like(membrane) if needed else membrane
        grad_current = torch.empty_like(membrane)
        grads = membrane.new_zeros(len(tensors), clips, features)
        surrogate = dynamics.surrogate
        launch(
            self.backward_kernel,
            membrane.shape,
            *(grad_spikes.contiguous(), membrane, current, room),
            *(*self._all(tensors), grad_current, grads),
            *(steps, features, clips * features, clips_a_client(tensors, clips)),
            reset=int(dynamics.reset),
            same_step=same_step,
            kind=int(surrogate.kind),
            slope=float(surrogate.slope),
            second=float(surrogate.second),
            learns=learns,
        )
        return grad_current, grads.unbind()

    def _all(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        return [*[None] * (self.rows - len(tensors)), *tensors]
