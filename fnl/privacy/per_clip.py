"""Per-clip gradients written by the layers themselves, for Opacus' optimizers and accountants.

Opacus' hooks keep every layer's input, wait for its output gradient, and then compute the
per-clip gradients beside the ordinary ones that a private step never uses. Here the backward
pass of `nn.Linear` and of spiking layers writes `p.grad_sample` itself, by one batched matrix
product, and computes no ordinary gradient. Every other layer keeps Opacus' hooks, and everything
after the backward pass is Opacus' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import fnl.privacy.grad_samplers  # noqa: F401 - registers what Opacus' hooks need of our layers
from fnl.errors import ConfigError
from fnl.snn.adaptive import AdaptiveLIF
from fnl.snn.neurons import LIF
from fnl.snn.recurrent import RecurrentLIF
from fnl.snn.spiking_layer import PerClip, SpikingLayer
from fnl.snn.synaptic import Synaptic

Deliver = Callable[[nn.Parameter, Tensor], None]
"""Takes a parameter and its per-clip gradients, [B, *parameter.shape], of one backward pass."""


class PerClipGradientModule(GradSampleModule):
    """Opacus' `GradSampleModule`, without its hooks on linear and spiking layers.

    After `loss.backward()`, `p.grad_sample` [B, *p.shape] is what Opacus would have put there.
    `p.grad` of a linear layer stays None until `DPOptimizer.step` writes it.

    Args:
        m: the network; clips are the first axis of everything in it.
        loss_reduction: `mean` or `sum`: how the loss joins the clips of a batch.
        strict: refuse trained layers with buffers, as Opacus does.

    Raises:
        ConfigError: if `loss_reduction` is neither.
    """

    def __init__(self, m: nn.Module, *, loss_reduction: str = "mean", strict: bool = True) -> None:
        if loss_reduction not in ("mean", "sum"):
            raise ConfigError(f"loss_reduction must be mean or sum, got {loss_reduction!r}")
        super().__init__(m, loss_reduction=loss_reduction, strict=strict)
        for layer in self._module.modules():
            if type(layer) in DIRECT:
                layer.forward = partial(self._run, layer)

    def iterate_submodules(self, module: nn.Module) -> Any:
        """Yield the layers that Opacus' hooks are for."""
        for layer in super().iterate_submodules(module):
            if type(layer) not in DIRECT:
                yield layer

    def remove_hooks(self) -> None:
        """Give every layer back its own forward pass, and remove Opacus' hooks."""
        for layer in self._module.modules():
            if type(layer) in DIRECT:
                vars(layer).pop("forward", None)
        super().remove_hooks()

    def _run(self, layer: nn.Module, signal: Tensor) -> Tensor:
        """Run a layer's forward pass, with per-clip gradients under Opacus' own conditions."""
        trained = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        wanted = trained and layer.training and torch.is_grad_enabled() and self.hooks_enabled
        if not wanted:
            return type(layer).forward(layer, signal)
        for parameter in trained:
            parameter._forward_counter += 1  # pyright: ignore[reportAttributeAccessIssue] - Opacus'
        factor = len(signal) if self.loss_reduction == "mean" else 1
        return DIRECT[type(layer)](layer, signal, factor, self._deliver)

    def _deliver(self, parameter: nn.Parameter, per_clip: Tensor) -> None:
        """Add per-clip gradients to those of this backward pass, and hand them on at its end.

        Raises:
            ValueError: under `forbid_grad_accumulation`, at a second pass without a step.
        """
        p: Any = parameter  # Opacus keeps its state in attributes of the parameters
        earlier = getattr(p, "_current_grad_sample", None)
        p._current_grad_sample = per_clip if earlier is None else earlier + per_clip
        p._forward_counter -= 1
        if p._forward_counter == 0:
            promote_current_grad_sample(p)
        if not self.grad_accumulation_allowed and isinstance(p.grad_sample, list):
            raise ValueError(
                "Poisson sampling is not compatible with gradient accumulation: "
                "call optimizer.step() after every backward pass, or use BatchMemoryManager"
            )


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
        return nn.functional.linear(signal, weight, bias)

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
            per_clip = torch.baddbmm(
                weight.new_empty(()), rows.transpose(1, 2), signals, beta=0, alpha=ctx.factor
            )
            ctx.deliver(weight, per_clip)
        if bias is not None and bias.requires_grad:
            ctx.deliver(bias, rows.sum(1).mul_(ctx.factor))
        return (grad @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


def _linear(layer: nn.Linear, signal: Tensor, factor: int, deliver: Deliver) -> Tensor:
    output = _LinearFunction.apply(signal, layer.weight, layer.bias, factor, deliver)
    return output  # pyright: ignore[reportReturnType]  # noqa: RET504 - `apply` is untyped


def _spiking(layer: SpikingLayer, current: Tensor, factor: int, deliver: Deliver) -> Tensor:
    def sink(gradients: PerClip) -> None:
        for parameter, gradient in gradients.items():
            deliver(parameter, gradient * factor)

    return layer.forward_with_sink(current, sink)


DIRECT: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    LIF: _spiking,
    RecurrentLIF: _spiking,
    Synaptic: _spiking,
    AdaptiveLIF: _spiking,
}
"""Layers that deliver per-clip gradients themselves, by exact type, and how they run."""
