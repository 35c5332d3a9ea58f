"""Per-clip gradients of our layers' own parameters, and their norms, for Opacus.

Importing this module registers them; Opacus' hooks then find them by the layer's type: the first
under per-clip, the second under Opacus' own ghost clipping.
"""

from __future__ import annotations

from opacus.grad_sample import register_grad_sampler
from opacus.grad_sample.utils import register_norm_sampler
from torch import Tensor, nn

from fnl.snn.delays import AxonalDelays
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.neurons.synaptic import Synaptic

SPIKING_LAYERS = [LIF, RecurrentLIF, Synaptic, AdaptiveLIF]
OWN_LAYERS = [*SPIKING_LAYERS, AxonalDelays]


@register_grad_sampler(OWN_LAYERS)
def spiking_grad_sample(
    layer: SpikingLayer | AxonalDelays, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the per-clip gradients of a layer's trained parameters.

    Args:
        layer: the layer.
        activations: its input, a current or a signal, one tensor [B, T, F].
        backprops: dL/d of its output scaled by Opacus to a sum over clips.
    """
    return layer.per_clip_gradients(activations[0], backprops)


@register_norm_sampler(OWN_LAYERS)
def spiking_norm_sample(
    layer: SpikingLayer | AxonalDelays, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the norms [B] of the per-clip gradients of a layer's trained parameters.

    Args:
        layer: the layer.
        activations: its input, a current or a signal, one tensor [B, T, F].
        backprops: dL/d of its output scaled by Opacus to a sum over clips.
    """
    gradients = layer.per_clip_gradients(activations[0], backprops)
    return {
        p: values.reshape(len(values), p.numel()).norm(2, dim=1) for p, values in gradients.items()
    }
