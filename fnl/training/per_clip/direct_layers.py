"""Layers that go back by themselves and deliver the gradients of each clip on the way.

A `Runner` computes a layer's output without autograd and returns with it the way back, which
hands the gradients of each clip to a `Deliver` and computes none of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.snn.dropout import Dropout
from fnl.snn.networks.conv import TimeFrequencyConv
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.snn.neurons.lif import LeakyReadout
from fnl.training.per_clip.clip_gradients import (
    ClipGradients,
    ConvolutionGradients,
    DenseGradients,
    LinearGradients,
)

Deliver = Callable[[Any, ClipGradients], None]
"""Takes a parameter and the gradients of each clip, of one use of it in one backward pass."""

Back = Callable[[Tensor, Deliver, bool], Tensor | None]
"""The way back: (gradient of the output, `Deliver`, whether that of the input is wanted) -> it.

To be gone once, and without autograd.
"""

Runner = Callable[[Any, Tensor, int, bool], tuple[Tensor, Back]]
"""Runs a layer: (layer, input, factor on the gradients of each clip, inner) -> output, way back.

Outputs and gradients are new tensors that nobody keeps. So a layer that is `inner`, which has
others of these before and behind it, may overwrite what it is given, forth and back.
"""


def _linear(layer: nn.Linear, signal: Tensor, factor: int, _inner: bool) -> tuple[Tensor, Back]:
    weight, bias = layer.weight, layer.bias

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        rows = with_one_axis_of_steps(grad)
        if weight.requires_grad:
            deliver(weight, LinearGradients(rows, with_one_axis_of_steps(signal), factor))
        if bias is not None and bias.requires_grad:
            deliver(bias, DenseGradients(_scaled(rows.sum(1), factor)))
        return grad @ weight if wanted else None

    return F.linear(signal, weight, bias), back


def with_one_axis_of_steps(values: Tensor) -> Tensor:
    """Return [B, …, F] as [B, steps, F]."""
    if values.ndim == 3:
        return values
    # the size is spelled out, because -1 is ambiguous for B = 0
    return values.reshape(len(values), math.prod(values.shape[1:-1]), values.shape[-1])


def _scaled(gradients: Tensor, factor: int) -> Tensor:
    """Return factor · gradients, in their place."""
    return gradients if factor == 1 else gradients.mul_(factor)


def _layer_norm(
    layer: nn.LayerNorm, signal: Tensor, factor: int, _inner: bool
) -> tuple[Tensor, Back]:
    weight, bias = layer.weight, layer.bias
    output, mean, inverse_deviation = torch.native_layer_norm(
        signal, layer.normalized_shape, weight, bias, layer.eps
    )

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        middle = tuple(range(1, signal.ndim - len(layer.normalized_shape)))
        if weight.requires_grad:
            products = torch.sub(signal, mean).mul_(inverse_deviation).mul_(grad)
            deliver(weight, DenseGradients(_sum(products, middle) * factor))
        if bias is not None and bias.requires_grad:
            deliver(bias, DenseGradients(_sum(grad, middle) * factor))
        if not wanted:
            return None
        grad_signal, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, signal, layer.normalized_shape, mean, inverse_deviation, weight, bias,
            [True, False, False],
        )  # fmt: skip
        return grad_signal

    return output, back


def _sum(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the sum over `axes`; PyTorch takes no axes to mean all."""
    return values.sum(axes) if axes else values


def _convolution(
    layer: nn.Conv1d | nn.Conv2d, signal: Tensor, factor: int, _inner: bool
) -> tuple[Tensor, Back]:
    weight, bias = layer.weight, layer.bias
    padding, ends = _zeros_around(layer)
    padded = F.pad(signal, ends) if any(ends) else signal

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        if weight.requires_grad:
            deliver(weight, ConvolutionGradients(layer, padding, grad, padded, factor))
        if bias is not None and bias.requires_grad:
            deliver(bias, DenseGradients(_scaled(grad.sum(tuple(range(2, grad.ndim))), factor)))
        if not wanted:
            return None
        grad_padded, _, _ = torch.ops.aten.convolution_backward(
            grad, padded, weight, None, layer.stride, padding, layer.dilation, False,
            [0] * len(padding), 1, [True, False, False],
        )  # fmt: skip
        return _cropped(grad_padded, ends) if any(ends) else grad_padded

    convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    return convolve(padded, weight, bias, layer.stride, padding, layer.dilation), back


def _zeros_around(layer: nn.Conv1d | nn.Conv2d) -> tuple[tuple[int, ...], list[int]]:
    """Return the zeros at both ends of each axis, and further ones at its ends for `F.pad`."""
    if layer.padding != "same":
        padding = (0,) * len(layer.dilation) if layer.padding == "valid" else layer.padding
        return padding, []  # pyright: ignore[reportReturnType] - no other strings
    totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    # PyTorch pads one more at the end of an axis whose zeros are odd in number
    ends = [side for total in reversed(totals) for side in (0, total % 2)]
    return tuple(total // 2 for total in totals), ends


def _temporal_convolution(
    layer: TemporalConv, signal: Tensor, factor: int, _inner: bool
) -> tuple[Tensor, Back]:
    padded = F.pad(signal.transpose(1, 2), layer.padding)
    output, conv_back = _convolution(layer.conv, padded, factor, _inner)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        grad_padded = conv_back(grad.transpose(1, 2), deliver, wanted)
        return None if grad_padded is None else _cropped(grad_padded, layer.padding).transpose(1, 2)

    return output.transpose(1, 2), back


def _planar_convolution(
    layer: TimeFrequencyConv, signal: Tensor, factor: int, _inner: bool
) -> tuple[Tensor, Back]:
    padded = F.pad(layer.planes(signal), layer.padding)
    output, conv_back = _convolution(layer.conv, padded, factor, _inner)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        grad_output = grad.unflatten(2, (output.shape[1], output.shape[3])).transpose(1, 2)
        grad_padded = conv_back(grad_output, deliver, wanted)
        if grad_padded is None:
            return None
        return _cropped(grad_padded, layer.padding).transpose(1, 2).flatten(2)

    return output.transpose(1, 2).flatten(2), back


def _cropped(padded: Tensor, ends: Sequence[int]) -> Tensor:
    """Return what `F.pad` had put these ends around."""
    return F.pad(padded, [-end for end in ends])


def _own(layer: Any, signal: Tensor, factor: int, inner: bool) -> tuple[Tensor, Back]:
    """Run a layer that has a `forward_and_back`, as spiking ones do."""
    output, layer_back = layer.forward_and_back(signal, overwrite=inner)

    def back(grad: Tensor, deliver: Deliver, _wanted: bool) -> Tensor | None:
        grad_signal, gradients = layer_back(grad)
        for parameter, gradient in gradients.items():
            deliver(parameter, DenseGradients(gradient * factor))
        return grad_signal

    return output, back


def _readout(layer: LeakyReadout, spikes: Tensor, factor: int, _inner: bool) -> tuple[Tensor, Back]:
    shares, total = layer.time_shares(spikes)
    mean, standard_back = shares @ spikes, None
    if layer.standard is not None:
        mean, standard_back = _own(layer.standard, mean, factor, False)
    scores, linear_back = _linear(layer.linear, mean, factor, _inner)

    def back(grad: Tensor, deliver: Deliver, wanted: bool) -> Tensor | None:
        below = wanted or standard_back is not None
        grad_mean = linear_back(grad * total, deliver, below)
        if grad_mean is not None and standard_back is not None:
            grad_mean = standard_back(grad_mean, deliver, wanted)
        return shares[:, None] * grad_mean[:, None, :] if wanted and grad_mean is not None else None

    return scores * total, back


def _dropout(layer: Dropout, signal: Tensor, _factor: int, _inner: bool) -> tuple[Tensor, Back]:
    mask = layer.mask(signal)
    return signal * mask, lambda grad, _deliver, _wanted: grad * mask


DIRECT: dict[type[nn.Module], Runner] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    TemporalConv: _temporal_convolution,
    TimeFrequencyConv: _planar_convolution,
    Dropout: _dropout,
    LeakyReadout: _readout,
}
"""Layers that go back by themselves, by exact type, and how they run."""


def direct_runner(layer: nn.Module) -> Runner | None:
    """Return how `layer` runs and delivers per-clip gradients; None leaves it to Opacus' hooks.

    Those of `DIRECT`, and those that declare `forward_and_back`. Convolutions in groups, or padded
    with anything but zeros, are left to Opacus.
    """
    if "forward" in vars(layer):
        return None
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and (
        layer.groups != 1 or layer.padding_mode != "zeros"
    ):
        return None
    return DIRECT.get(type(layer)) or (_own if declares(layer, "forward_and_back") else None)


def declares(layer: nn.Module, method: str) -> bool:
    """Return whether `method` speaks of the layer's forward pass: a subclass may change that."""
    for kind in type(layer).__mro__:
        if method in vars(kind):
            return True
        if "forward" in vars(kind):
            return False
    return False
