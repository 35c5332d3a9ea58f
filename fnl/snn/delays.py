"""Axonal delays that are learned: every neuron's spikes reach the next layer at times of its own.

Hammouamri et al. 2024 (arXiv 2306.17670) learn a delay a synapse, as the position of a weight in
a kernel over time. Here a neuron's synapses share their delays, so that a layer costs what a
convolution with as many taps costs, and the positions are interpolated linearly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fnl.snn.kernels import delays_numba
from fnl.snn.kernels.dynamics import uses_numba
from fnl.snn.networks.taps import Taps

RATE = 30.0
"""Steps of time in one unit of the parameter: how much faster than weights positions move."""


class AxonalDelays(nn.Module):
    """Each feature S times over, at trained positions in time: [B, T, F] -> [B, T, S·F].

    A tap at position p reads step t + p. In training a position between two steps is linear
    interpolation, which is what moves it; in evaluation it is rounded to a whole step. Positions
    start on the grid of a dilated convolution and stay within its reach; a training pass first
    puts back those that an optimizer moved out.

    Args:
        features: F.
        taps: S steps, where the positions start.

    Attributes:
        position: positions / `RATE`, tap by tap, [S·F].
        rate: steps in one unit of the parameter.
        first: the earliest step a tap reads, relative to t; at most 0.
        last: the latest; at least 0.
    """

    def __init__(self, features: int, taps: Taps) -> None:
        super().__init__()
        self.features, self.taps, self.dilation = features, taps.size, taps.dilation
        reach = taps.dilation * (taps.size - 1)
        self.last = 0 if taps.causal else reach // 2
        self.first = self.last - reach
        self._ends, self.rate = (self.first, self.last), RATE
        self.position = nn.Parameter(self._grid())

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those of the positions, which stay where they are.

        The reach is then of whole steps on either side, as many as it takes.
        """
        (first, last), self.rate = self._ends, RATE / ratio
        self.first, self.last = math.floor(first / ratio), math.ceil(last / ratio)

    def initialise(self, generator: torch.Generator) -> None:  # noqa: ARG002 - nothing is drawn
        """Put the positions on their grid."""
        with torch.no_grad():
            self.position.copy_(self._grid())

    def positions(self) -> Tensor:
        """Return the positions in steps, [S, F]: within reach, and whole in evaluation."""
        steps = self.position * self.rate
        inside = steps.detach().clamp(self.first, self.last)
        steps = steps + (inside - steps.detach()) if self.training else inside.round()
        return steps.unflatten(0, (self.taps, self.features))

    def forward(self, signal: Tensor) -> Tensor:
        """Return the taps [B, T, S·F], tap by tap, of the signal [B, T, F]."""
        return self._taps(signal, self._places(signal))

    def forward_and_back(
        self,
        signal: Tensor,
        *,
        overwrite: bool = False,  # noqa: ARG002 - the gradients need the signal
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, dict[nn.Parameter, Tensor]]]]:
        """Do `forward`; return the taps and the way back, to be gone once.

        It leads from dL/dtaps [B, T, S·F] to dL/dsignal and the gradients of each clip.
        """
        places = self._places(signal).detach()
        with torch.enable_grad():
            source = signal.detach().requires_grad_()
            taps = self._taps(source, places)

        def back(grad_taps: Tensor) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
            (grad_signal,) = torch.autograd.grad(taps, source, grad_taps)
            return grad_signal, self.per_clip_gradients(signal, grad_taps)

        return taps.detach(), back

    @torch.no_grad()
    def per_clip_gradients(self, signal: Tensor, grad_taps: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return dL/d`position` of each clip, [B, S·F].

        Args:
            signal: of the forward pass, [B, T, F].
            grad_taps: dL/d of what `forward` returned, [B, T, S·F].
        """
        if not self.position.requires_grad or not self.training:
            return {}
        positions = self.positions().to(signal.dtype)
        now, then = self._two_steps(signal, positions)
        rise = (then - now).flatten(2)
        return {self.position: torch.einsum("btf,btf->bf", grad_taps, rise) * self.rate}

    def extra_repr(self) -> str:
        """Describe the delays."""
        return f"{self.features}, taps={self.taps}, steps {self.first} to {self.last}"

    def _places(self, signal: Tensor) -> Tensor:
        """Return the positions for this signal, put back first where training moved them out."""
        if self.training:
            with torch.no_grad():
                first, last = self._ends
                self.position.clamp_(first / RATE, last / RATE)
        return self.positions().to(signal.dtype)

    def _taps(self, signal: Tensor, positions: Tensor) -> Tensor:
        if uses_numba("auto", signal):
            return _Shift.apply(signal, positions, self.first, self.last).flatten(2)
        return self._shifted(signal, positions).flatten(2)

    def _grid(self) -> Tensor:
        steps = self._ends[0] + self.dilation * torch.arange(self.taps)
        return steps.repeat_interleave(self.features) / RATE

    def _shifted(self, signal: Tensor, positions: Tensor) -> Tensor:
        now, then = self._two_steps(signal, positions)
        return torch.lerp(now, then, (positions - positions.detach().floor()).expand_as(now))

    def _two_steps(self, signal: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return what lies at the step before each position and at the one after, [B, T, S, F]."""
        padded = F.pad(signal, (0, 0, -self.first, self.last + 1))
        padded = padded.unsqueeze(2).expand(-1, -1, self.taps, -1)
        steps = torch.arange(signal.shape[1], device=signal.device)[:, None, None]
        index = steps + _offset(positions.detach().floor(), self.first)
        index = index.expand(len(signal), -1, -1, -1)
        return padded.gather(1, index), padded.gather(1, index + 1)


class DelayedLinear(nn.Module):
    """Axonal delays, then a dense layer of all taps: [B, T, F_in] -> [B, T, F_out].

    Args:
        in_features: F_in.
        out_features: F_out.
        taps: the delays of a neuron of the input, at the start.
        bias: whether there is one.
    """

    def __init__(
        self, in_features: int, out_features: int, taps: Taps, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.delays = AxonalDelays(in_features, taps)
        self.linear = nn.Linear(taps.size * in_features, out_features, bias=bias)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the current [B, T, F_out] of the signal [B, T, F_in]."""
        return self.linear(self.delays(signal))

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those of the delays, which stay as long."""
        self.delays.in_time(ratio)

    def chain(self) -> list[nn.Module]:
        """Return the modules that `forward` runs one after the other."""
        return [self.delays, self.linear]


def _offset(whole: Tensor, first: int) -> Tensor:
    """Return whole positions counted from `first`, int64; nan reads step t and becomes nan."""
    return whole.nan_to_num(nan=0.0).long() - first


class _Shift(torch.autograd.Function):
    """`AxonalDelays._shifted`, compiled; [B, T, F] and positions [S, F] to [B, T, S, F]."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, positions: Tensor, first: int, last: int) -> Tensor:
        whole = positions.detach().floor()
        offset, part = _offset(whole, first), positions.detach() - whole
        padded = F.pad(signal.detach(), (0, 0, -first, last + 1))
        clips, steps, features = signal.shape
        out = signal.new_empty(clips, steps, len(positions), features)
        delays_numba.shift(padded.numpy(), offset.numpy(), part.numpy(), out.numpy())
        ctx.save_for_backward(padded, offset, part)
        ctx.reach = first, last
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad_taps: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        padded, offset, part = ctx.saved_tensors
        first, last = ctx.reach
        grad = grad_taps.contiguous()
        clips, steps, taps, features = grad.shape
        grad_input = grad.new_zeros(clips, steps, features)
        wanted = ctx.needs_input_grad[1]
        grad_position = grad.new_zeros(clips if wanted else 0, taps, features)
        delays_numba.shift_back(
            grad.numpy(),
            F.pad(grad, (0, 0, 0, 0, last + 1, -first)).numpy(),
            padded.numpy(),
            offset.numpy(),
            part.numpy(),
            last - first,
            grad_input.numpy(),
            grad_position.numpy(),
        )
        return grad_input, grad_position.sum(0) if wanted else None, None, None
