"""The ways to clip the gradients of each clip, by one interface, on Opacus' optimizers.

| | written out | ghost |
|---|---|---|
| flat | `FlatOptimizer`, a `DPOptimizer` | `DPOptimizerFastGradientClipping` |
| per layer | `DPPerLayerOptimizer` | `DPOptimizerFastGradientClipping` |
| adaptive | the same, its bound moved | `DPOptimizerFastGradientClipping`, likewise |
| automatic | the same, every gradient scaled | `DPOptimizerFastGradientClipping` |

Flat clipping bounds the whole gradient of a clip by C. Per-layer clipping (McMahan et al. 2018)
bounds its part for each of the P parameters by C/√P, and so the whole by C: the noise is the same.
As in Opacus, a layer is here one parameter tensor. Adaptive clipping is flat clipping whose bound
follows a quantile (`adaptive_clipping`). Automatic clipping (Bu, Wang, Zha & Karypis 2022, arXiv
2206.07136) has no bound to tune: each gradient becomes C·g/(‖g‖ + γ), γ = 0.01, shorter than C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping, DPPerLayerOptimizer
from torch import Tensor, nn

from fnl.privacy.clip_factor import Clipping, layer_bound
from fnl.training.per_clip.clip_gradients import (
    ClipNorms,
    DenseGradients,
    mean_of_units,
    mean_of_views,
)
from fnl.training.per_clip.flat_optimizer import FlatOptimizer
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.module import PerClipGradientModule

ClippingMethod = Literal["per-clip", "ghost"]
"""Whether the gradients of the clips are written out. The result is the same."""


@dataclass(frozen=True)
class Bound:
    """What the gradient of a clip is clipped to.

    Attributes:
        clip_norm: C.
        clipping: how it bounds the gradient.
        views: K, of whose gradients the mean is clipped.
    """

    clip_norm: float
    clipping: Clipping
    views: int = 1


class WrittenOut:
    """Per-clip gradients written out, clipped by the optimizer; `options` are its further ones."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, bound: Bound, **options: Any
    ) -> None:
        self._views = bound.views
        self.module = PerClipGradientModule(network, loss_reduction="sum", strict=False)
        if bound.clipping != "per-layer":
            self.optimizer = FlatOptimizer(optimizer, max_grad_norm=bound.clip_norm, **options)
            self.optimizer.automatic = bound.clipping == "automatic"
        else:
            layers = sum(len(group["params"]) for group in optimizer.param_groups)
            bounds = [layer_bound(bound.clip_norm, layers)] * layers
            self.optimizer = DPPerLayerOptimizer(optimizer, max_grad_norm=bounds, **options)

    def clip(self, sizes: Tensor | None = None) -> ClipNorms:
        """Return the norms before clipping; the optimizer clips.

        Of units of several clips, whose `sizes` [U] are given, the mean of each is clipped.
        """
        if self._views > 1 or sizes is not None:
            for parameter, sample in zip(
                self.optimizer.params, self.optimizer.grad_samples, strict=True
            ):
                means = mean_of_views(sample, self._views) if self._views > 1 else sample
                _set_samples(parameter, means if sizes is None else mean_of_units(means, sizes))
        if isinstance(self.optimizer, FlatOptimizer):
            norms = self.optimizer.norms()
        else:
            for parameter, sample in zip(
                self.optimizer.params, self.optimizer.grad_samples, strict=True
            ):
                if parameter.ndim == 0:
                    # [B, 1]: of [B], DPPerLayerOptimizer takes one norm over all clips
                    _set_samples(parameter, sample.reshape(-1, 1))
            samples = self.optimizer.grad_samples
            parts = [torch.linalg.vector_norm(one.flatten(1), dim=1) for one in samples]
            norms = ClipNorms(torch.stack(parts, dim=1))
        if (gone := norms.unbounded()) is not None:
            for parameter, sample in zip(
                self.optimizer.params, self.optimizer.grad_samples, strict=True
            ):
                _set_samples(parameter, DenseGradients(sample).without(gone).values)
        return norms

    def skip(self) -> None:
        """Give every parameter the gradients of no clips."""
        for parameter in self.optimizer.params:
            _set_samples(parameter, parameter.new_zeros((0, *(parameter.shape or (1,)))))


def _set_samples(parameter: nn.Parameter, samples: Tensor) -> None:
    setattr(parameter, "grad_sample", samples)  # noqa: B010 - Opacus' own attribute


class Ghost:
    """Clipped sums without per-clip gradients."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, bound: Bound, **options: Any
    ) -> None:
        self._bound = bound
        self.module = GhostClippingModule(network, loss_reduction="sum", strict=False)
        self.optimizer = DPOptimizerFastGradientClipping(
            optimizer, max_grad_norm=bound.clip_norm, **options
        )

    def clip(self, sizes: Tensor | None = None) -> ClipNorms:
        """Write the clipped sums to the gradients; return the norms before: see `WrittenOut`."""
        return self.module.clip(
            self.optimizer.params,
            self.optimizer.max_grad_norm,
            per_layer=self._bound.clipping == "per-layer",
            automatic=self._bound.clipping == "automatic",
            views=self._bound.views,
            sizes=sizes,
        )

    def skip(self) -> None:
        """Set the gradients to zero."""
        for parameter in self.optimizer.params:
            parameter.grad = torch.zeros_like(parameter)


ClippedTraining = WrittenOut | Ghost
"""A network and its private optimizer: `module` wraps the network, and a loss summed over the batch
goes backward on it; `optimizer` is to be stepped after `clip` or `skip`."""

METHODS: dict[ClippingMethod, type[ClippedTraining]] = {
    "per-clip": WrittenOut,
    "ghost": Ghost,
}
"""Ways of clipping by the name a configuration uses."""
