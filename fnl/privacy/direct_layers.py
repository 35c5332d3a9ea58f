"""Layers whose own backward pass delivers the gradients of each clip.

Each hands, instead of the gradients of the batch, those of each clip to a `Deliver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fnl.privacy.clip_gradients import (
    ClipGradients,
    ConvolutionGradients,
    DenseGradients,
    LinearGradients,
)
from fnl.snn.adaptive import AdaptiveLIF
from fnl.snn.neurons import LIF
from fnl.snn.recurrent import RecurrentLIF
from fnl.snn.spiking_layer import PerClip, SpikingLayer
from fnl.snn.synaptic import Synaptic

Deliver = Callable[[nn.Parameter, ClipGradients], None]
"""Takes a parameter and the gradients of each clip, of one use of it in one backward pass."""

Runner = Callable[..., Tensor]
"""Runs a layer: (layer, signal, factor on the gradients of each clip, `Deliver`) -> output."""


class _LinearFunction(torch.autograd.Function):
    """`nn.Linear` whose backward pass delivers per-clip gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Any,
        signal: Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        factor: int,
        deliver: Deliver,
    ) -> Tensor:
        ctx.save_for_backward(signal)
        ctx.weight, ctx.bias, ctx.factor, ctx.deliver = weight, bias, factor, deliver
        return F.linear(signal, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, None, None, None]:
        (signal,) = ctx.saved_tensors
        weight, bias = ctx.weight, ctx.bias
        # [B, …, F] as [B, steps, F]; spelled out, because -1 is ambiguous for B = 0
        steps = math.prod(signal.shape[1:-1])
        rows = grad.reshape(len(grad), steps, grad.shape[-1])
        if weight.requires_grad:
            signals = signal.reshape(len(signal), steps, signal.shape[-1])
            ctx.deliver(weight, LinearGradients(rows, signals, ctx.factor))
        if bias is not None and bias.requires_grad:
            ctx.deliver(bias, DenseGradients(rows.sum(1).mul_(ctx.factor)))
        return (grad @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


class _LayerNormFunction(torch.autograd.Function):
    """`nn.LayerNorm` over the last axes whose backward pass delivers per-clip gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Any,
        signal: Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        layer: nn.LayerNorm,
        factor: int,
        deliver: Deliver,
    ) -> Tensor:
        output, mean, inverse_deviation = torch.native_layer_norm(
            signal, layer.normalized_shape, weight, bias, layer.eps
        )
        ctx.save_for_backward(signal, mean, inverse_deviation)
        ctx.layer, ctx.factor, ctx.deliver = layer, factor, deliver
        return output

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, None, None, None, None]:
        signal, mean, inverse_deviation = ctx.saved_tensors
        layer: nn.LayerNorm = ctx.layer
        weight, bias = layer.weight, layer.bias
        middle = tuple(range(1, signal.ndim - len(layer.normalized_shape)))
        if weight.requires_grad:
            products = torch.sub(signal, mean).mul_(inverse_deviation).mul_(grad)
            ctx.deliver(weight, DenseGradients(_sum(products, middle) * ctx.factor))
        if bias is not None and bias.requires_grad:
            ctx.deliver(bias, DenseGradients(_sum(grad, middle) * ctx.factor))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, None
        grad_signal, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, signal, layer.normalized_shape, mean, inverse_deviation, weight, bias,
            [True, False, False],
        )  # fmt: skip
        return grad_signal, None, None, None, None, None


def _sum(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the sum over `axes`; PyTorch takes no axes to mean all."""
    return values.sum(axes) if axes else values


class _ConvolutionFunction(torch.autograd.Function):
    """`nn.Conv1d` or `nn.Conv2d` whose backward pass delivers per-clip gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Any,
        signal: Tensor,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        layer: nn.Conv1d | nn.Conv2d,
        padding: tuple[int, ...],
        factor: int,
        deliver: Deliver,
    ) -> Tensor:
        ctx.save_for_backward(signal)
        ctx.layer, ctx.padding, ctx.factor, ctx.deliver = layer, padding, factor, deliver
        convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        return convolve(signal, weight, bias, layer.stride, padding, layer.dilation)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own idiom
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, None, None, None, None, None, None]:
        (signal,) = ctx.saved_tensors
        layer: nn.Conv1d | nn.Conv2d = ctx.layer
        weight, bias = layer.weight, layer.bias
        if weight.requires_grad:
            gradients = ConvolutionGradients(layer, ctx.padding, grad, signal, ctx.factor)
            ctx.deliver(weight, gradients)
        if bias is not None and bias.requires_grad:
            axes = tuple(range(2, grad.ndim))
            ctx.deliver(bias, DenseGradients(grad.sum(axes).mul_(ctx.factor)))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, None, None
        grad_signal, _, _ = torch.ops.aten.convolution_backward(
            grad, signal, weight, None, layer.stride, ctx.padding, layer.dilation, False,
            [0] * len(ctx.padding), 1, [True, False, False],
        )  # fmt: skip
        return grad_signal, None, None, None, None, None, None


def _linear(layer: nn.Linear, signal: Tensor, factor: int, deliver: Deliver) -> Tensor:
    output = _LinearFunction.apply(signal, layer.weight, layer.bias, factor, deliver)
    return output  # pyright: ignore[reportReturnType]  # noqa: RET504 - `apply` is untyped


def _layer_norm(layer: nn.LayerNorm, signal: Tensor, factor: int, deliver: Deliver) -> Tensor:
    return _LayerNormFunction.apply(  # pyright: ignore[reportReturnType] - as above
        signal, layer.weight, layer.bias, layer, factor, deliver
    )


def _convolution(
    layer: nn.Conv1d | nn.Conv2d, signal: Tensor, factor: int, deliver: Deliver
) -> Tensor:
    padding: tuple[int, ...]
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        padding = tuple(total // 2 for total in totals)
        odd = [total % 2 for total in totals]
        if any(odd):  # PyTorch pads one more at the end of such an axis
            signal = F.pad(signal, [side for more in reversed(odd) for side in (0, more)])
    else:
        padding = (0,) * len(layer.dilation) if layer.padding == "valid" else layer.padding  # pyright: ignore[reportAssignmentType] - no other strings
    return _ConvolutionFunction.apply(  # pyright: ignore[reportReturnType] - as above
        signal, layer.weight, layer.bias, layer, padding, factor, deliver
    )


def _spiking(layer: SpikingLayer, current: Tensor, factor: int, deliver: Deliver) -> Tensor:
    def sink(gradients: PerClip) -> None:
        for parameter, gradient in gradients.items():
            deliver(parameter, DenseGradients(gradient * factor))

    return layer.forward_with_sink(current, sink)


DIRECT: dict[type[nn.Module], Runner] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    LIF: _spiking,
    RecurrentLIF: _spiking,
    Synaptic: _spiking,
    AdaptiveLIF: _spiking,
}
"""Layers that deliver per-clip gradients themselves, by exact type, and how they run."""


def direct_runner(layer: nn.Module) -> Runner | None:
    """Return how `layer` runs and delivers per-clip gradients; None leaves it to Opacus' hooks.

    Convolutions in groups, or padded with anything but zeros, are left to Opacus.
    """
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and (
        layer.groups != 1 or layer.padding_mode != "zeros"
    ):
        return None
    return DIRECT.get(type(layer))
