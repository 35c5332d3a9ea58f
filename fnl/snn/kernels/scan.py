"""A spiking layer's whole time loop, whatever the neuron: which code runs it, and where it writes.

A kind of neuron is a `Scan`: what it is made of, and how it goes forward and back. Choosing the
backend, making room for results and joining autograd is done here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fnl.snn.kernels.dynamics import Dynamics, uses_numba, uses_triton
from fnl.snn.kernels.torch_blocks import (
    Plain,
    above,
    moments_of,
    over_steps,
    step_back,
    step_through,
)
from fnl.snn.surrogates import SurrogateKind

Recorded = tuple[Tensor, Tensor]
"""Spikes per clip and neuron, int32 [B, F] (sums of activations where the kind `rectifies`), and
moments of the membrane, float64 [6, F]: over clips, per neuron, Σu, Σu², Σu[t]u[t+1], Σu[0],
Σu[T−1] of the membrane after each step, and in how many steps it changed, the first step of a clip
counted in any case."""

MOST_RECURRENT = 512
"""Neurons of a recurrent layer that the GPU's kernels can hold; larger ones run in PyTorch."""

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


@dataclass(frozen=True)
class Passes:
    """Forward and backward pass of a kind of neuron, compiled for the CPU.

    Attributes:
        forward: `(current, tensors, reset, reset_delay, spikes, membrane, counts, moments)`, NumPy
            arrays, of which it fills the last four; those it need not are empty.
        backward: `(grad_spikes, membrane, current, slopes, tensors, reset, reset_delay,
            surrogate, learns, grad_current, grads)`, of which it fills the last two; `current` is
            empty where nothing is learned or it is not kept.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]


@dataclass(frozen=True)
class Scan:
    """A kind of neuron.

    Its tensors are its parameters as rows [F], the last of which is θ; of recurrent neurons also
    the weights [F to, F from] and the bias [F] of the synapses between them. For K clients each has
    one more axis, [K, …], and the clips are K times as many, client by client.

    Attributes:
        rows: its parameters' names.
        states: what a neuron carries from a step to the next.
        compiled: for the CPU, by Numba.
        plain: how it charges, in PyTorch: for what has no compiled kernel, and the reference of
            the others.
        triton: the module beside this one with its kernels for the GPU, if there is one.
        recurrent: whether a neuron's spikes reach the others in the next step.
        keeps_current: whether the gradients of the rows need I.
        overwrites: whether the membrane may take the place of I, and dL/dI that of dL/dS.
        always_delays: whether the reset acts in the step after the spike, whatever was asked for.
        rectifies: whether a neuron sends max(U − θ, 0), any number, in place of spikes; the word
            spikes then stands for these.
    """

    rows: tuple[str, ...]
    states: tuple[str, ...]
    compiled: Passes
    plain: Plain
    triton: str = ""
    recurrent: bool = False
    keeps_current: bool = False
    overwrites: bool = False
    always_delays: bool = False
    rectifies: bool = False

    def forward(
        self,
        current: Tensor,
        tensors: Sequence[Tensor],
        dynamics: Dynamics,
        *,
        save: bool = False,
        record: bool = False,
        overwrite: bool = False,
    ) -> tuple[Tensor, Tensor | None, Recorded | None]:
        """Step every neuron of every clip through time.

        Args:
            current: I, contiguous [B, T, F] with T >= 1.
            tensors: contiguous, of the dtype of I.
            dynamics: reset, its timing, backend.
            save: whether to return the membrane that `backward` needs.
            record: whether to return statistics.
            overwrite: whether the membrane may take the place of I, where this kind can.

        Returns:
            Spikes [B, T, F]; the membrane compared with θ [B, T, F] or None; statistics or None.
        """
        if self._uses_triton(dynamics, current):
            return self._triton().forward(current, tensors, dynamics, save=save, record=record)
        if not uses_numba(dynamics.backend, current):
            dynamics = self.plain_dynamics(dynamics)
            tensors = self._by_clip(tensors, len(current))
            charge = self.plain(current, tensors, dynamics)
            spikes, membrane, left = step_through(
                current, self.threshold(tensors), dynamics, charge
            )
            recorded = (self._counts(spikes), moments_of(left)) if record else None
            return spikes, membrane if save else None, recorded
        clips, _, features = current.shape
        spikes = torch.empty_like(current)
        counts, moments = _nothing(torch.int32, 0, 0), _nothing(torch.float64, 0, 0)
        if record:
            counts = torch.zeros(clips, features, dtype=torch.int32)
            moments = torch.zeros(6, features, dtype=torch.float64)
        membrane = _nothing(current.dtype, 0, 0, 0)
        if save:
            membrane = current if overwrite and self.overwrites else torch.empty_like(current)
        modes = int(dynamics.reset), dynamics.reset_delay
        into = [room.numpy() for room in (spikes, membrane, counts)]
        for rows, own in _clients(tensors, clips):
            self.compiled.forward(
                current.numpy()[rows], own, *modes, *[room[rows] for room in into], moments.numpy()
            )
        if self.rectifies and record:
            counts = self._counts(spikes)  # those of the kernel are whole numbers
        return spikes, membrane if save else None, (counts, moments) if record else None

    def backward(
        self,
        grad_spikes: Tensor,
        membrane: Tensor,
        current: Tensor | None,
        tensors: Sequence[Tensor],
        dynamics: Dynamics,
        *,
        learns: bool = True,
        overwrite: bool = False,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return dL/dI [B, T, F], and the gradients of each row and clip, [B, F] each.

        Args:
            grad_spikes: dL/dS, [B, T, F].
            membrane: from `forward` with `save`.
            current: I of the forward pass; None where nothing is learned or it is not kept.
            tensors: as in the forward pass.
            dynamics: as in the forward pass.
            learns: whether the gradients of the rows are wanted; what is returned for them says
                nothing if not.
            overwrite: whether dL/dI may take the place of dL/dS, where this kind can.
        """
        learns = learns and not (self.keeps_current and current is None)
        if self._uses_triton(dynamics, membrane):
            return self._triton().backward(
                grad_spikes, membrane, current, tensors, dynamics, learns=learns
            )
        if not uses_numba(dynamics.backend, membrane):
            kind, dynamics = (self.plain, len(self.rows)), self.plain_dynamics(dynamics)
            tensors = self._by_clip(tensors, len(membrane))
            return step_back(
                kind, grad_spikes, membrane, current, tensors=tensors, dynamics=dynamics
            )
        clips, _, features = membrane.shape
        grad_spikes = grad_spikes.contiguous()
        reuse = overwrite and self.overwrites
        grad_current = grad_spikes if reuse else torch.empty_like(membrane)
        nothing = _nothing(membrane.dtype, 0, 0, 0)
        kept = nothing if current is None else current
        surrogate, scalar = dynamics.surrogate, _NUMPY[membrane.dtype]
        slopes = membrane
        # PyTorch's exponential is vectorised and Numba's is not
        if surrogate.kind in (SurrogateKind.SIGMOID, SurrogateKind.SPIKE_RATE_ESCAPE):
            threshold = self.threshold(self._by_clip(tensors, clips))
            slopes = surrogate.derivative(membrane - over_steps(threshold))
        modes = int(dynamics.reset), dynamics.reset_delay
        formula = int(surrogate.kind), scalar(surrogate.slope), scalar(surrogate.second)
        # a reset in the spike's own step has kernels write to θ's in any case
        wanted = learns or not dynamics.reset_delay
        clients = 1 if tensors[0].ndim == 1 else len(tensors[0])
        grads = _nothing(membrane.dtype, clients, 0, 0, 0)
        if wanted:
            each = clips // max(1, clients)
            grads = membrane.new_zeros(clients, len(self.rows), each, features)
        given = [tensor.numpy() for tensor in (grad_spikes, membrane, kept, slopes)]
        into = grad_current.numpy()
        for (rows, own), of_rows in zip(_clients(tensors, clips), grads.numpy(), strict=True):
            self.compiled.backward(
                *[array[rows] for array in given], own, *modes, formula, learns, into[rows], of_rows
            )
        return grad_current, grads.transpose(0, 1).flatten(1, 2).unbind() if wanted else ()

    def threshold(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return θ, [F], or one a client or a clip."""
        return tensors[len(self.rows) - 1]

    def spikes_before(self, membrane: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Return the spikes of the step before each, zeros at the first, [B, T, F]."""
        threshold = self.threshold(self._by_clip(tensors, len(membrane)))
        spikes = above(membrane, over_steps(threshold))
        if self.rectifies:
            spikes = (membrane - over_steps(threshold)).relu_()
        return torch.cat([torch.zeros_like(spikes[:, :1]), spikes[:, :-1]], dim=1)

    def _by_clip(self, tensors: Sequence[Tensor], clips: int) -> Sequence[Tensor]:
        """Return the rows of K clients as each clip's own, [B, F]; of one client as they are."""
        if tensors[0].ndim == 1:
            return tensors
        each = clips // max(1, len(tensors[0]))
        rows = [row.repeat_interleave(each, 0) for row in tensors[: len(self.rows)]]
        return [*rows, *tensors[len(self.rows) :]]

    def plain_dynamics(self, dynamics: Dynamics) -> Dynamics:
        """Return `dynamics` as plain PyTorch needs them of this kind."""
        delays = dynamics.reset_delay or self.always_delays
        return replace(dynamics, reset_delay=delays, rectifies=self.rectifies)

    def _counts(self, spikes: Tensor) -> Tensor:
        """Return the sums over steps [B, F]: int32 of spikes, the signal's type else."""
        sums = spikes.sum(1)
        return sums if self.rectifies else sums.to(torch.int32)

    def _uses_triton(self, dynamics: Dynamics, tensor: Tensor) -> bool:
        """Return whether the kernels for the GPU run.

        Recurrent ones are of single precision, and hold all neurons of a layer.
        """
        if not self.triton or not uses_triton(dynamics.backend, tensor):
            return False
        fits = tensor.dtype == torch.float32 and tensor.shape[2] <= MOST_RECURRENT
        return fits or not self.recurrent

    def _triton(self) -> Any:
        """Return the kernels for the GPU: Triton is there with CUDA only."""
        return import_module(f"fnl.snn.kernels.{self.triton}").KERNELS


def _clients(tensors: Sequence[Tensor], clips: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
    """Yield which of the clips are each client's, and its tensors as arrays of NumPy."""
    arrays = [tensor.numpy() for tensor in tensors]
    if arrays[0].ndim == 1:
        yield slice(None), tuple(arrays)
        return
    each = clips // max(1, len(arrays[0]))
    for client, own in enumerate(zip(*arrays, strict=True)):
        yield slice(client * each, (client + 1) * each), own


class ScanFunction(torch.autograd.Function):
    """Spikes of a layer; saves one membrane tensor for its backward, and I where needed."""

    @staticmethod
    def forward(
        ctx: Any, kind: Scan, current: Tensor, dynamics: Dynamics, *tensors: Tensor
    ) -> Tensor:
        """Return S [B, T, F] for I [B, T, F] and the neurons' tensors."""
        current, tensors = current.contiguous(), tuple(row.contiguous() for row in tensors)
        save = any(ctx.needs_input_grad)
        spikes, membrane, _ = kind.forward(current, tensors, dynamics, save=save)
        ctx.learns = any(ctx.needs_input_grad[3:][: len(kind.rows)])
        if membrane is not None:
            needed = kind.keeps_current and ctx.learns
            ctx.save_for_backward(membrane, current if needed else None, *tensors)
        ctx.kind, ctx.dynamics = kind, dynamics
        return spikes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad_spikes: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of I [B, T, F] and the tensors."""
        membrane, current, *tensors = ctx.saved_tensors
        kind, learns = ctx.kind, ctx.learns
        grad_current, grads = kind.backward(
            grad_spikes, membrane, current, tensors, ctx.dynamics, learns=learns
        )
        gradients = [grad.sum(0) for grad in grads] if learns else [None for _ in kind.rows]
        if kind.recurrent:
            before = kind.spikes_before(membrane, tensors)
            gradients.append(grad_current.flatten(0, 1).t() @ before.flatten(0, 1))
            gradients.append(grad_current.sum((0, 1)))
        return None, grad_current, None, *gradients


def scan(kind: Scan, current: Tensor, tensors: Sequence[Tensor], dynamics: Dynamics) -> Tensor:
    """Return the spikes of a layer [B, T, F], differentiable once.

    Args:
        kind: the neurons.
        current: I, [B, T, F] with T >= 1.
        tensors: the neurons', of the dtype of I.
        dynamics: reset, its timing, surrogate, backend.
    """
    return ScanFunction.apply(kind, current, dynamics, *tensors)  # pyright: ignore[reportReturnType] - `apply` is untyped


@cache
def _nothing(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return an empty tensor, for a kernel that is to leave something out."""
    return torch.empty(shape, dtype=dtype)
