"""Per-clip gradients of our layers' own parameters, and their norms, for Opacus.

Opacus' hooks find them by a layer's exact type: gradients under per-clip, norms under Opacus' own
ghost clipping.
"""

from __future__ import annotations

from opacus.grad_sample import register_grad_sampler
from opacus.grad_sample.utils import register_norm_sampler
from torch import Tensor, nn

from fnl.snn.delays import AxonalDelays
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.training.per_clip.direct_layers import declares


def register_grad_samplers(network: nn.Module) -> None:
    """Tell Opacus of all layers in `network` that know the gradients of each clip themselves."""
    for layer in network.modules():
        if declares(layer, "per_clip_gradients"):
            register_grad_sampler(type(layer))(_grad_sample)
            register_norm_sampler(type(layer))(_norm_sample)


def _grad_sample(
    layer: SpikingLayer | AxonalDelays, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the per-clip gradients of a layer's trained parameters."""
    return layer.per_clip_gradients(activations[0], backprops)


def _norm_sample(
    layer: SpikingLayer | AxonalDelays, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the norms [B] of what `_grad_sample` returns."""
    gradients = _grad_sample(layer, activations, backprops)
    return {
        p: values.reshape(len(values), p.numel()).norm(2, dim=1) for p, values in gradients.items()
    }
