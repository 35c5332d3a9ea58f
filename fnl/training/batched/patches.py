"""Convolutions as products: what each position of the output sees, laid out as a row."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor

from fnl.snn.networks.conv import TimeFrequencyConv
from fnl.snn.networks.temporal_conv import TemporalConv


class Patches:
    """The patches of a convolution over [B, T, features].

    Args:
        layer: over time, or over time and frequency; its kernel's axes behind the first are those
            of a patch.
    """

    def __init__(self, layer: TemporalConv | TimeFrequencyConv) -> None:
        self._layer, self._conv = layer, layer.conv
        self._padding = tuple(layer.padding)

    def of(self, signal: Tensor) -> Tensor:
        """Return the patches of all positions, [B, positions, C_in · kernel], a copy."""
        padded = F.pad(self._planes(signal), self._padding)
        positions = self._positions(padded)
        clip, channel, *axes = padded.stride()
        conv = self._conv
        moves = [step * stride for step, stride in zip(conv.stride, axes, strict=True)]
        taps = [step * stride for step, stride in zip(conv.dilation, axes, strict=True)]
        size = (len(padded), *positions, padded.shape[1], *conv.kernel_size)
        view = padded.as_strided(size, (clip, *moves, channel, *taps))
        rows = padded.shape[1] * math.prod(conv.kernel_size)
        return view.reshape(len(padded), math.prod(positions), rows)

    def back(self, grad: Tensor, signal: Tensor) -> Tensor:
        """Return the gradient of the signal, of that of its patches."""
        conv = self._conv
        planes = self._planes(signal)
        before, after = self._padding[::-2], self._padding[-2::-2]  # an axis each, the last first
        ends = [sum(both) for both in zip(before, after, strict=True)]
        shape = [size + end for size, end in zip(planes.shape[2:], ends, strict=True)]
        padded = grad.new_zeros(*planes.shape[:2], *shape)
        positions = self._positions(padded)
        each = grad.unflatten(1, positions).unflatten(-1, (planes.shape[1], *conv.kernel_size))
        axes = len(positions)
        each = each.movedim(1 + axes, 1)  # [B, C, positions, kernel]
        for tap in itertools.product(*map(range, conv.kernel_size)):
            place = [
                slice(t * d, t * d + (p - 1) * s + 1, s)
                for t, d, p, s in zip(tap, conv.dilation, positions, conv.stride, strict=True)
            ]
            padded[(..., *place)] += each[(..., *tap)]
        cropped = F.pad(padded, [-end for end in self._padding])
        return self._steps(cropped)

    def positions(self, grad: Tensor) -> Tensor:
        """Return the gradient of the output, [B, T, features], as [B, positions, C_out]."""
        if isinstance(self._layer, TemporalConv):
            return grad
        channels = self._conv.out_channels
        return (
            grad.unflatten(2, (channels, grad.shape[2] // channels)).transpose(2, 3).flatten(1, 2)
        )

    def features(self, output: Tensor, steps: int) -> Tensor:
        """Return [B, positions, C_out] as the layer's output, [B, T, features]."""
        if isinstance(self._layer, TemporalConv):
            return output
        bands = output.shape[1] // steps
        return output.unflatten(1, (steps, bands)).transpose(2, 3).flatten(2)

    def _planes(self, signal: Tensor) -> Tensor:
        """Return the signal as [B, C_in, T] or [B, C_in, T, bands]."""
        if isinstance(self._layer, TemporalConv):
            return signal.transpose(1, 2)
        return self._layer.planes(signal)

    def _steps(self, planes: Tensor) -> Tensor:
        """Return planes as a signal."""
        swapped = planes.transpose(1, 2)
        return swapped if isinstance(self._layer, TemporalConv) else swapped.flatten(2)

    def _positions(self, padded: Tensor) -> list[int]:
        """Return how many positions the output has on each axis."""
        conv = self._conv
        return [
            (size - d * (k - 1) - 1) // s + 1
            for size, d, k, s in zip(
                padded.shape[2:], conv.dilation, conv.kernel_size, conv.stride, strict=True
            )
        ]
