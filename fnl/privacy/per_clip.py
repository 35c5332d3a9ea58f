"""Per-clip gradients written by the layers themselves, for Opacus' optimizers and accountants.

Opacus' hooks keep every layer's input, wait for its output gradient, and then compute the
per-clip gradients beside the ordinary ones that a private step never uses. Here the backward
pass of linear, convolutional, normalising and spiking layers (`direct_layers.DIRECT`) writes
`p.grad_sample` itself, by one batched matrix product, and computes no ordinary gradient. Such
layers that are known to follow one another (`layer_stack.CHAINS`) are one operation of autograd.
Every other layer keeps Opacus' hooks, and everything after the backward pass is Opacus' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import Tensor, nn

import fnl.privacy.grad_samplers  # noqa: F401 - registers what Opacus' hooks need of our layers
from fnl.errors import ConfigError
from fnl.privacy.clip_gradients import ClipGradients
from fnl.privacy.direct_layers import direct_runner
from fnl.privacy.layer_stack import CHAINS, chained, has_hooks, run_stack


class PerClipGradientModule(GradSampleModule):
    """Opacus' `GradSampleModule`, without its hooks on the layers of `DIRECT`.

    After `loss.backward()`, `p.grad_sample` [B, *p.shape] is what Opacus would have put there.
    `p.grad` of those layers stays None until `DPOptimizer.step` writes it.

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
        self._parameters_of = {layer: list(layer.parameters()) for layer in self._module.modules()}
        for layer in self._module.modules():
            if type(layer) in CHAINS:
                layer.forward = partial(self._run_chain, layer)
            elif direct_runner(layer) is not None:
                layer.forward = partial(self._run, [layer])

    def iterate_submodules(self, module: nn.Module) -> Any:
        """Yield the layers that Opacus' hooks are for."""
        for layer in super().iterate_submodules(module):
            if direct_runner(layer) is None:
                yield layer

    def remove_hooks(self) -> None:
        """Give every layer back its own forward pass, and remove Opacus' hooks."""
        for layer in self._module.modules():
            if type(layer) in CHAINS or direct_runner(layer) is not None:
                vars(layer).pop("forward", None)
        super().remove_hooks()

    def _run_chain(self, chain: nn.Module, signal: Tensor) -> Tensor:
        """Run a chain's forward pass, as many layers at once as go back by themselves."""
        stack: list[nn.Module] = []
        for module in chained(chain):
            if direct_runner(module) is not None and module.training and not has_hooks(module):
                stack.append(module)
            else:
                signal = module(self._run(stack, signal))
                stack = []
        return self._run(stack, signal)

    def _run(self, stack: Sequence[nn.Module], signal: Tensor) -> Tensor:
        """Run direct layers one after the other, delivering under Opacus' own conditions."""
        trained = [p for layer in stack for p in self._parameters_of[layer] if p.requires_grad]
        wanted = trained and stack[0].training and torch.is_grad_enabled() and self.hooks_enabled
        if not wanted:
            for layer in stack:
                signal = type(layer).forward(layer, signal)
            return signal
        for parameter in trained:
            parameter._forward_counter += 1  # pyright: ignore[reportAttributeAccessIssue] - Opacus'
        runners = [(run, layer) for layer in stack if (run := direct_runner(layer)) is not None]
        factor = len(signal) if self.loss_reduction == "mean" else 1
        return run_stack(runners, signal, factor, self._deliver, trained)

    def _deliver(self, parameter: nn.Parameter, gradients: ClipGradients) -> None:
        """Add per-clip gradients to those of this backward pass, and hand them on at its end.

        Raises:
            ValueError: under `forbid_grad_accumulation`, at a second pass without a step.
        """
        per_clip = gradients.written_out()
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
