"""The ways to clip the gradients of each clip, by one interface, on Opacus' optimizers.

| | written out | ghost |
|---|---|---|
| flat | `DPOptimizer` | `DPOptimizerFastGradientClipping` |
| per layer | `DPPerLayerOptimizer` | `DPOptimizerFastGradientClipping` |

Flat clipping bounds the whole gradient of a clip by C. Per-layer clipping (McMahan et al. 2018)
bounds its part for each of the P parameters by C/√P, and so the whole by C: the noise is the same.
As in Opacus, a layer is here one parameter tensor.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping, DPPerLayerOptimizer
from torch import Tensor, nn

from fnl.privacy.ghost import GhostClippingModule
from fnl.privacy.per_clip import PerClipGradientModule

Clipping = Literal["flat", "per-layer"]
"""What is bounded: the whole gradient of a clip, or its part for each parameter."""

ClippingMethod = Literal["per-clip", "ghost"]
"""Whether the gradients of the clips are written out. The result is the same."""


class ClippedTraining(Protocol):
    """A network and its private optimizer."""

    @property
    def module(self) -> PerClipGradientModule:
        """The network wrapped; a loss summed over the batch goes backward on it."""
        ...

    @property
    def optimizer(self) -> DPOptimizer:
        """Opacus' optimizer; to be stepped after `clip` or `skip`."""
        ...

    def clip(self) -> Tensor:
        """Prepare the step after a backward pass; return norms before clipping, [B, P]."""
        ...

    def skip(self) -> None:
        """Prepare the step for an empty batch: noise alone."""
        ...


class WrittenOut:
    """Per-clip gradients written out, clipped by the optimizer."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        clipping: Clipping,
        **options: Any,
    ) -> None:
        self.module = PerClipGradientModule(network, loss_reduction="sum", strict=False)
        if clipping == "flat":
            self.optimizer = DPOptimizer(optimizer, max_grad_norm=clip_norm, **options)
        else:
            layers = sum(len(group["params"]) for group in optimizer.param_groups)
            bounds = [clip_norm / layers**0.5] * layers
            self.optimizer = DPPerLayerOptimizer(optimizer, max_grad_norm=bounds, **options)

    def clip(self) -> Tensor:
        """Return the norms before clipping, [B, P]; the optimizer clips."""
        samples = self.optimizer.grad_samples
        for parameter, sample in zip(self.optimizer.params, samples, strict=True):
            if parameter.ndim == 0:
                # [B, 1]: of [B], DPPerLayerOptimizer takes one norm over all clips
                _set_samples(parameter, sample.reshape(-1, 1))
        return torch.stack([g.reshape(len(g), -1).norm(2, dim=1) for g in samples], dim=1)

    def skip(self) -> None:
        """Give every parameter the gradients of no clips."""
        for parameter in self.optimizer.params:
            _set_samples(parameter, parameter.new_zeros((0, *(parameter.shape or (1,)))))


def _set_samples(parameter: nn.Parameter, samples: Tensor) -> None:
    setattr(parameter, "grad_sample", samples)  # noqa: B010 - Opacus' own attribute


class Ghost:
    """Clipped sums without per-clip gradients."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        clipping: Clipping,
        **options: Any,
    ) -> None:
        self.module = GhostClippingModule(network, loss_reduction="sum", strict=False)
        self.optimizer = DPOptimizerFastGradientClipping(
            optimizer, max_grad_norm=clip_norm, **options
        )
        self._per_layer = clipping == "per-layer"

    def clip(self) -> Tensor:
        """Write the clipped sums to the gradients; return the norms before, [B, P]."""
        bound = self.optimizer.max_grad_norm
        return self.module.clip(self.optimizer.params, bound, per_layer=self._per_layer)

    def skip(self) -> None:
        """Set the gradients to zero."""
        for parameter in self.optimizer.params:
            parameter.grad = torch.zeros_like(parameter)


METHODS: dict[ClippingMethod, type[WrittenOut] | type[Ghost]] = {
    "per-clip": WrittenOut,
    "ghost": Ghost,
}
"""Ways of clipping by the name a configuration uses."""
