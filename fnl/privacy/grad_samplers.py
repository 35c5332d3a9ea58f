"""Per-clip gradients of our layers' own parameters, for Opacus.

Importing this module registers them; Opacus' hooks then find them by the layer's type.
"""

from __future__ import annotations

from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn

from fnl.snn.adaptive import AdaptiveLIF
from fnl.snn.neurons import LIF
from fnl.snn.recurrent import RecurrentLIF
from fnl.snn.spiking_layer import SpikingLayer
from fnl.snn.synaptic import Synaptic


@register_grad_sampler([LIF, RecurrentLIF, Synaptic, AdaptiveLIF])
def spiking_grad_sample(
    layer: SpikingLayer, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the per-clip gradients of a spiking layer's trained parameters.

    Args:
        layer: the layer.
        activations: its input current, one tensor [B, T, F].
        backprops: dL/dS scaled by Opacus to a sum over clips, [B, T, F].
    """
    return layer.per_clip_gradients(activations[0], backprops)
