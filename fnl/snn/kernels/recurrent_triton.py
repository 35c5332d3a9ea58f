"""Recurrent leaky integrate-and-fire over time on a GPU, by Triton.

One program steps all neurons of sixteen clips of a client through time: their spikes are multiplied
by the synapses as one product a step. Terms are added in another order than elsewhere, so spikes
are the references' up to rounding.

Checked in Triton's interpreter on a CPU only, and never run on a GPU: see `triton_blocks`.
"""
# ruff: noqa: PLR0917 - kernels take pointers by position

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports] - comes with CUDA builds of torch only
import triton.language as tl  # pyright: ignore[reportMissingImports] - likewise
from torch import Tensor

from fnl.snn.kernels import triton_blocks as blocks
from fnl.snn.kernels.dynamics import Dynamics
from fnl.snn.kernels.torch_blocks import moments_of
from fnl.snn.kernels.triton_blocks import COMPILER_OPTIONS, SUBTRACT, ZERO, clips_a_client

CLIPS = tl.constexpr(16)
"""Clips of a program: the least that a product of a GPU takes."""
CHUNK = tl.constexpr(32)
"""Neurons whose synapses are loaded at a time."""


@triton.jit
def place(each, features, block: tl.constexpr):
    """Return a program's client, its clips and their mask, its neurons and theirs."""
    client = tl.program_id(0)
    nth = tl.program_id(1) * CLIPS + tl.arange(0, CLIPS)
    neuron = tl.arange(0, block)
    return client, (client * each + nth).to(tl.int64), nth < each, neuron, neuron < features


@triton.jit
def product(signals, start, clip_inside, weight, across, along, neuron, inside, features, total):
    """Return `total` + signals · W, [clips, block]: signals [clips, F] begin at `start`.

    The synapse of signal f and neuron n is at f · `across` + n · `along` of `weight`.
    """
    for first in range(0, features, CHUNK):
        f = first + tl.arange(0, CHUNK)
        there = f < features
        own = tl.load(
            signals + start[:, None] + f[None, :],
            mask=clip_inside[:, None] & there[None, :], other=0.0,
        )  # fmt: skip
        synapses = tl.load(
            weight + f[:, None] * across + neuron[None, :] * along,
            mask=there[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        total += tl.dot(own, synapses, input_precision="ieee")
    return total


@triton.jit
def forward_kernel(
    current, beta, threshold, weight, bias, spikes, membrane, left, steps, features, each,
    reset: tl.constexpr, reset_delay: tl.constexpr, save: tl.constexpr, record: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Step all neurons of some clips through time."""
    client, clip, clip_inside, neuron, inside = place(each, features, block)
    own = client * features + neuron
    decay = tl.load(beta + own, mask=inside, other=0.0)[None, :]
    theta = tl.load(threshold + own, mask=inside, other=0.0)[None, :]
    constant = tl.load(bias + own, mask=inside, other=0.0)[None, :]
    synapses = weight + client * features * features
    mask = clip_inside[:, None] & inside[None, :]
    carried = tl.zeros([CLIPS, block], tl.float32)
    for t in range(steps):
        start = (clip * steps + t) * features
        here = start[:, None] + neuron[None, :]
        heard = tl.zeros([CLIPS, block], tl.float32) + constant
        if t > 0:
            before = start - features
            heard = product(
                spikes, before, clip_inside, synapses, 1, features, neuron, inside, features, heard
            )
        was_reset = blocks.above(carried, theta)
        fired = decay * carried + tl.load(current + here, mask=mask, other=0.0) + heard
        if reset == SUBTRACT:
            fired = fired - was_reset * theta
        elif reset == ZERO:
            fired = fired - was_reset * fired
        carried = blocks.membrane_left(carried, fired, theta, reset, reset_delay)
        tl.store(spikes + here, blocks.above(fired, theta), mask=mask)
        if save:
            tl.store(membrane + here, fired, mask=mask)
        if record:
            tl.store(left + here, carried, mask=mask)
        tl.debug_barrier()  # other threads load these spikes in the next step


@triton.jit
def replay_left(membrane, left, theta, clip, mask, neuron, steps, features, reset: tl.constexpr):
    """Do `triton_blocks.replay_left` for some clips."""
    entered = tl.zeros_like(mask.to(tl.float32))
    for t in range(steps):
        here = ((clip * steps + t) * features)[:, None] + neuron[None, :]
        fired = tl.load(membrane + here, mask=mask, other=0.0)
        entered = blocks.membrane_left(entered, fired, theta, reset, False)
        tl.store(left + here, entered, mask=mask)
    tl.debug_barrier()  # another thread may load what one stored


@triton.jit
def backward_kernel(
    grad_spikes, membrane, left, beta, threshold, weight, grad_current, grads, steps, features,
    each, size, reset: tl.constexpr, same_step: tl.constexpr, kind: tl.constexpr,
    slope: tl.constexpr, second: tl.constexpr, learns: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Take all neurons of some clips back through time; `left` as in `lif_triton`."""
    client, clip, clip_inside, neuron, inside = place(each, features, block)
    own = client * features + neuron
    decay = tl.load(beta + own, mask=inside, other=0.0)[None, :]
    theta = tl.load(threshold + own, mask=inside, other=0.0)[None, :]
    synapses = weight + client * features * features
    mask = clip_inside[:, None] & inside[None, :]
    if same_step:
        replay_left(membrane, left, theta, clip, mask, neuron, steps, features, reset)
    grad_left = tl.zeros([CLIPS, block], tl.float32)
    sum_beta = tl.zeros([CLIPS, block], tl.float32)
    sum_threshold = tl.zeros([CLIPS, block], tl.float32)
    for step in range(steps):
        t = steps - 1 - step
        start = (clip * steps + t) * features
        here = start[:, None] + neuron[None, :]
        grad_out = tl.load(grad_spikes + here, mask=mask, other=0.0)
        if step > 0:
            after = start + features
            grad_out = product(
                grad_current, after, clip_inside, synapses, features, 1, neuron, inside, features,
                grad_out,
            )  # fmt: skip
        fired = tl.load(membrane + here, mask=mask, other=0.0)
        later = mask & (neuron[None, :] + t * features >= features)  # than the first step
        entered = tl.load(left + here - features, mask=later, other=0.0)
        was_reset = blocks.above(entered, theta)
        if same_step:
            resets = blocks.above(fired, theta) - was_reset
            if reset == SUBTRACT:
                grad_out -= grad_left * theta
                sum_threshold -= grad_left * resets
            else:
                grad_out -= grad_left * fired
                grad_left *= 1.0 - resets
        through = grad_out * blocks.surrogate_derivative(fired - theta, kind, slope, second)
        grad_fired = grad_left + through
        sum_threshold -= through
        if reset == SUBTRACT:
            sum_threshold -= grad_fired * was_reset
        elif reset == ZERO:
            grad_fired = grad_fired * (1.0 - was_reset)
        sum_beta += grad_fired * entered
        grad_left = decay * grad_fired
        tl.store(grad_current + here, grad_fired, mask=mask)
        tl.debug_barrier()  # other threads load these gradients in the next step
    if learns:
        row = (clip * features)[:, None] + neuron[None, :]
        tl.store(grads + row, sum_beta, mask=mask)
        tl.store(grads + size + row, sum_threshold, mask=mask)


def _launch(kernel: Any, tensors: Sequence[Tensor], shape: torch.Size, *given: Any, **modes: Any):
    """Run a kernel on every sixteen clips of every client."""
    clips, _, features = shape
    if clips == 0:
        return
    each = clips_a_client(tensors, clips)
    block = max(16, triton.next_power_of_2(features))
    grid = clips // each, triton.cdiv(each, CLIPS.value)
    with torch.cuda.device_of(given[0]):
        kernel[grid](
            *given, **modes, each=each, features=features, block=block,
            num_warps=max(1, min(8, block // 32)), **COMPILER_OPTIONS,
        )  # fmt: skip


class RecurrentKernels:
    """The passes, as `Scan.forward` and `Scan.backward` want them."""

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
        spikes = torch.empty_like(current)
        membrane = torch.empty_like(current) if save else None
        left = torch.empty_like(current) if record else None
        _launch(
            forward_kernel,
            tensors,
            current.shape,
            *(current, *tensors, spikes, membrane, left),
            steps=current.shape[1],
            reset=int(dynamics.reset),
            reset_delay=dynamics.reset_delay,
            save=save,
            record=record,
        )
        if left is None:
            return spikes, membrane, None
        return spikes, membrane, (spikes.sum(1).to(torch.int32), moments_of(left))

    def backward(
        self, grad_spikes: Tensor, membrane: Tensor, _current: Tensor | None,
        tensors: Sequence[Tensor], dynamics: Dynamics, *, learns: bool,
    ) -> tuple[Tensor, Sequence[Tensor]]:  # fmt: skip
        """Do `Scan.backward`."""
        clips, steps, features = membrane.shape
        beta, threshold, weight, _ = tensors
        same_step, surrogate = dynamics.acts_at_once, dynamics.surrogate
        left = torch.empty_like(membrane) if same_step else membrane
        grad_current = torch.empty_like(membrane)
        grads = membrane.new_zeros(2, clips, features)
        _launch(
            backward_kernel,
            tensors,
            membrane.shape,
            *(grad_spikes.contiguous(), membrane, left, beta, threshold, weight),
            *(grad_current, grads),
            steps=steps,
            size=clips * features,
            reset=int(dynamics.reset),
            same_step=same_step,
            kind=int(surrogate.kind),
            slope=float(surrogate.slope),
            second=float(surrogate.second),
            learns=learns,
        )
        return grad_current, grads.unbind()


KERNELS = RecurrentKernels()
