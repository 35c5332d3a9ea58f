"""Per-clip gradients written by the layers themselves, for Opacus' optimizers and accountants.

Opacus' hooks keep every layer's input, wait for its output gradient, and then compute the per-clip
gradients beside the ordinary ones that a private step never uses. Here linear, convolutional,
normalising and spiking layers (`direct_layers`) that follow one another go forward and back
without autograd, and write `p.grad_sample` themselves, by one batched matrix product. Other layers
of PyTorch's and ours keep Opacus' hooks, and modules of a user's own have ways of their own
(`own_modules`): each parameter of a link has one of the three. Everything after the backward pass
is an Opacus optimizer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module import promote_current_grad_sample
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.device import device_of
from fnl.errors import ConfigError
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import set_draws
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.chain import (
    Step,
    by_autograd,
    hooks_on,
    links,
    run_backward,
    run_forward,
)
from fnl.training.per_clip.clip_gradients import ClipGradients, DenseGradients
from fnl.training.per_clip.direct_layers import Runner, direct_runner
from fnl.training.per_clip.grad_samplers import register_grad_samplers
from fnl.training.per_clip.own_modules import OwnModule, own_links

Loss = Callable[[Tensor], tuple[float, Tensor]]
"""Scores [B, C] -> the loss and its gradient [B, C]."""

Descent = Callable[[Tensor, Loss], float]
"""Goes forward and back: (network's input, clips first; loss of its output) -> the loss."""


@dataclass(frozen=True)
class _Way:
    """How a network is gone through, decided once.

    Attributes:
        ahead: layers before the first trained one.
        steps: the others, as `run_forward` takes them.
        counted: parameters whose use Opacus does not count, as often as each is used.
        idle: trained parameters that no layer has.
    """

    ahead: Sequence[nn.Module]
    steps: Sequence[Step]
    counted: Sequence[nn.Parameter]
    idle: Sequence[nn.Parameter]


class PerClipGradientModule(GradSampleModule):
    """Opacus' `GradSampleModule`, with a way of its own through chains of layers.

    After `descent()(signal, loss)`, `p.grad_sample` [B, *p.shape] is what Opacus' hooks would have
    put there in `loss(self(signal)).backward()`, which works, too, and takes longer, unless there
    are modules of a user's own. `p.grad` of direct layers stays None until `DPOptimizer.step`
    writes it. A parameter that the pass does not use has gradients of zero.

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
        register_grad_samplers(m)
        self._own: dict[nn.Module, OwnModule] = {link: OwnModule(link) for link in own_links(m)}
        super().__init__(m, loss_reduction=loss_reduction, strict=strict)

    def iterate_submodules(self, module: nn.Module) -> Iterable[nn.Module]:
        """Yield the modules that Opacus is to hook: none in modules of a user's own."""
        if module not in self._own:
            yield from super().iterate_submodules(module)

    def descent(self) -> Descent:
        """Return what goes forward and back, delivers per-clip gradients and returns the loss.

        Direct layers of a chain go back without autograd, whose own work takes as long as a small
        layer's; any other layer has autograd and Opacus' hooks to itself. Nothing goes back
        through what comes before the first trained layer. How to go is decided here: layers,
        hooks on them and what is trained have to stay as they are.

        Raises:
            RuntimeError: if a layer with trained parameters is not in training.
        """
        layers = [self] if self._has_hooks(self) else list(links(self._module, self._has_hooks))
        trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
        if any(one and not layer.training for one, layer in zip(trained, layers, strict=True)):
            raise RuntimeError("gradients of each clip need a network in training: call train()")
        first = trained.index(True) if True in trained else len(layers)
        runners = [self._runner(layer) for layer in layers[first:]]
        # whoever is between two direct layers is given tensors that nobody keeps
        kept = [layer in self._own for layer in layers[first:]]
        direct = [r is not by_autograd and not k for r, k in zip(runners, kept, strict=True)]
        direct = [False, *direct, False]
        inner = [before and after for before, after in zip(direct, direct[2:], strict=False)]
        steps = list(zip(runners, layers[first:], inner, strict=True))
        used = {parameter for layer in layers for parameter in layer.parameters()}
        idle = [p for p in self.parameters() if p.requires_grad and p not in used]
        direct_uses = [  # a parameter is here as often as it is used
            parameter
            for run, layer, _ in steps
            if run is not by_autograd
            for parameter in layer.parameters()
            if parameter.requires_grad
        ]
        return partial(self._descend, _Way(layers[:first], steps, direct_uses + idle, idle))

    def _descend(self, way: _Way, signal: Tensor, loss: Loss) -> float:
        for parameter in way.counted:
            parameter._forward_counter += 1  # pyright: ignore[reportAttributeAccessIssue] - Opacus'
        # what turns a clip's part of the loss's gradient into its own
        factor = len(signal) if self.loss_reduction == "mean" else 1
        with torch.no_grad():
            for layer in way.ahead:
                signal = layer(signal)
            output, backs = run_forward(way.steps, signal, factor)
            value, grad = loss(output)
            run_backward(backs, grad, self._deliver)
            for parameter in way.idle:
                zeros = parameter.new_zeros(len(signal), *parameter.shape)
                self._deliver(parameter, DenseGradients(zeros))
        return value

    def _runner(self, layer: nn.Module) -> Runner:
        """Return how a layer of a chain runs, delivering under Opacus' own conditions."""
        if layer in self._own:
            return self._own[layer].run
        if not self.hooks_enabled or self._has_hooks(layer):
            return by_autograd
        return direct_runner(layer) or by_autograd

    def _has_hooks(self, module: nn.Module) -> bool:
        """Return whether calling `module` does more than its forward pass and what Opacus adds."""
        opacus = {handle.id for handle in self.autograd_grad_sample_hooks}
        return any(hook not in opacus for hook in hooks_on(module))

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


def gradients_of_batches(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    size: int,
    keys: DrawKeys | None,
    loss: TrainingLoss,
) -> Iterator[list[Tensor]]:
    """Yield the gradients of `size` clips at a time, [B, numbers] of each trained parameter.

    For whoever looks at gradients and trains nothing: the network is left as it was.

    Args:
        network: maps [B, T, F] to logits [B, C].
        features: [n, T, F].
        labels: int64 [n].
        size: B.
        keys: of what clips draw; those of a round's first step are taken.
        loss: of which they are.
    """
    device = device_of(network)
    features, labels = features.to(device), labels.to(device)
    training, draws = network.training, keys.of(features) if keys else None
    network.train()
    module = PerClipGradientModule(network, loss_reduction="sum", strict=False)
    state = HiddenState(network)
    try:
        descend = module.descent()
        for start in range(0, len(labels), size):
            rows = slice(start, start + size)
            state.rest()
            if draws is not None:
                set_draws(network, draws.batch(rows, step=0))
            descend(features[rows].float(), partial(loss, labels=labels[rows]))
            given = [getattr(p, "grad_sample") for p in network.parameters() if p.requires_grad]  # noqa: B009 - Opacus' own attribute
            yield [sample.reshape(len(sample), -1) for sample in given]
            module.zero_grad(set_to_none=True)
    finally:
        module.zero_grad(set_to_none=True)
        module.remove_hooks()
        network.train(training)
