"""Per-clip gradients written by the layers themselves, for Opacus' optimizers and accountants.

Opacus' hooks keep every layer's input, wait for its output gradient, and then compute the
per-clip gradients beside the ordinary ones that a private step never uses. Here the backward
pass of linear, convolutional, normalising and spiking layers (`direct_layers.DIRECT`) writes
`p.grad_sample` itself, by one batched matrix product, and computes no ordinary gradient. Such
layers that are known to follow one another (`layer_stack.CHAINS`) are one operation of autograd;
a network of nothing else goes back without it (`PerClipGradientModule.descent`). Every other
layer keeps Opacus' hooks, and everything after the backward pass is an Opacus optimizer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import Tensor, nn

import fnl.training.per_clip.grad_samplers  # noqa: F401 - registers what Opacus' hooks need of our layers
from fnl.errors import ConfigError
from fnl.training.per_clip.clip_gradients import ClipGradients
from fnl.training.per_clip.direct_layers import Runner, direct_runner
from fnl.training.per_clip.layer_stack import (
    CHAINS,
    chained,
    has_hooks,
    is_idle,
    parts,
    run_backward,
    run_forward,
    run_stack,
)

Loss = Callable[[Tensor], tuple[float, Tensor]]
"""Scores [B, C] -> the loss and its gradient [B, C]."""

Descent = Callable[[Tensor, Loss], float]
"""Goes forward and back: (network's input, clips first; loss of its output) -> the loss."""


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
        self._runners = {
            layer: runner
            for layer in self._module.modules()
            if (runner := direct_runner(layer)) is not None
        }
        chains = [module for module in self._module.modules() if type(module) in CHAINS]
        self._parts = parts(self._module) if self._module in chains else []
        self._called = [self, *chains, *self._parts]
        for layer in self._module.modules():
            if type(layer) in CHAINS:
                layer.forward = partial(self._run_chain, layer)
            elif layer in self._runners:
                layer.forward = partial(self._run, [layer])

    def descent(self) -> Descent:
        """Return what does as `loss(self(signal)).backward()` does, and returns the loss.

        A chain of direct layers goes back without autograd, whose own work takes as long as a
        small layer's; ahead of them may be what is not trained. No gradient of the signal is
        computed. How to go is decided here: layers, hooks on them and what is trained have to
        stay as they are.
        """
        ahead, stack = self._whole_stack()
        trained = self._trained(stack)
        if not trained:
            return self._descend_by_autograd
        return partial(self._descend, ahead, self._with_runners(stack), trained)

    def _descend_by_autograd(self, signal: Tensor, loss: Loss) -> float:
        output = self(signal)
        value, grad = loss(output.detach())
        output.backward(grad)
        return value

    def _descend(
        self,
        ahead: Sequence[nn.Module],
        layers: Sequence[tuple[Runner, nn.Module]],
        trained: Sequence[nn.Parameter],
        signal: Tensor,
        loss: Loss,
    ) -> float:
        _count_uses(trained)
        with torch.no_grad():
            for part in ahead:
                signal = part(signal)
            output, backs = run_forward(layers, signal, self._factor(signal))
            value, grad = loss(output)
            run_backward(backs, grad, self._deliver, wanted=False)
        return value

    def _whole_stack(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Return the layers of a chain of direct ones, and what comes ahead of them; else none."""
        if not self.hooks_enabled or any(map(has_hooks, self._called)):
            return [], []
        working = [part for part in self._parts if not is_idle(part)]
        ahead = list(takewhile(self._is_ahead, working))
        stack = working[len(ahead) :]
        straight = all(part in self._runners and part.training for part in stack)
        return (ahead, stack) if straight else ([], [])

    def _is_ahead(self, part: nn.Module) -> bool:
        return part not in self._runners and not self._trained([part])

    def _runs_in_stack(self, layer: nn.Module) -> bool:
        return layer in self._runners and layer.training and not has_hooks(layer)

    def iterate_submodules(self, module: nn.Module) -> Any:
        """Yield the layers that Opacus' hooks are for."""
        for layer in super().iterate_submodules(module):
            if direct_runner(layer) is None:
                yield layer

    def remove_hooks(self) -> None:
        """Give every layer back its own forward pass, and remove Opacus' hooks."""
        for layer in self._module.modules():
            if type(layer) in CHAINS or layer in self._runners:
                vars(layer).pop("forward", None)
        super().remove_hooks()

    def _run_chain(self, chain: nn.Module, signal: Tensor) -> Tensor:
        """Run a chain's forward pass, as many layers at once as go back by themselves."""
        stack: list[nn.Module] = []
        for module in chained(chain):
            if self._runs_in_stack(module):
                stack.append(module)
            else:
                signal = module(self._run(stack, signal))
                stack = []
        return self._run(stack, signal)

    def _run(self, stack: Sequence[nn.Module], signal: Tensor) -> Tensor:
        """Run direct layers one after the other, delivering under Opacus' own conditions."""
        trained = self._trained(stack)
        wanted = trained and stack[0].training and torch.is_grad_enabled() and self.hooks_enabled
        if not wanted:
            for layer in stack:
                signal = type(layer).forward(layer, signal)
            return signal
        _count_uses(trained)
        factor = self._factor(signal)
        return run_stack(self._with_runners(stack), signal, factor, self._deliver, trained)

    def _trained(self, stack: Sequence[nn.Module]) -> list[nn.Parameter]:
        return [p for layer in stack for p in self._parameters_of[layer] if p.requires_grad]

    def _with_runners(self, stack: Sequence[nn.Module]) -> list[tuple[Runner, nn.Module]]:
        return [(self._runners[layer], layer) for layer in stack]

    def _factor(self, signal: Tensor) -> int:
        """Return what turns a clip's part of the loss's gradient into its own."""
        return len(signal) if self.loss_reduction == "mean" else 1

    def _deliver(self, parameter: nn.Parameter, gradients: ClipGradients) -> None:
        """Add per-clip gradients to those of this backward pass, and hand them on at its end.

        Raises:
            ValueError: under `forbid_grad_accumulation`, at a second pass without a step.
        """
        per_clip = gradients.written_out()
        p: Any = parameter  # Opacus keeps its state in attributes of the parameters
        earlier = getattr(p, "_current_grad_sample", None)
        p._forward_counter -= 1
        if earlier is None and p._forward_counter == 0 and p.grad_sample is None:
            p.grad_sample = per_clip  # what the lines below come to where it is used once
            return
        p._current_grad_sample = per_clip if earlier is None else earlier + per_clip
        if p._forward_counter == 0:
            promote_current_grad_sample(p)
        if not self.grad_accumulation_allowed and isinstance(p.grad_sample, list):
            raise ValueError(
                "Poisson sampling is not compatible with gradient accumulation: "
                "call optimizer.step() after every backward pass, or use BatchMemoryManager"
            )


def _count_uses(parameters: Sequence[nn.Parameter]) -> None:
    """Count the uses of parameters in a forward pass, as Opacus does."""
    for parameter in parameters:
        parameter._forward_counter += 1  # pyright: ignore[reportAttributeAccessIssue] - Opacus'
