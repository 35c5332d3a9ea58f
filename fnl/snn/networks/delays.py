"""Learned axonal delays before each dense layer: taps as `temporal-conv` has, which then move."""

from __future__ import annotations

from itertools import pairwise

from fnl.config import ModelGroup
from fnl.snn.delays import DelayedLinear
from fnl.snn.networks.stack import SpikingNetwork, has_bias


def delays(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [delays → Linear → normalisation → neurons → dropout] × L and a read-out.

    Every neuron has `model.kernel_size` delays, at the start `model.dilations` steps apart.
    """
    pairs = pairwise((inputs, *model.hidden_sizes))
    linear = [
        DelayedLinear(
            fan_in,
            fan_out,
            model.kernel_size,
            dilation,
            causal=model.padding == "causal",
            bias=has_bias(model),
        )
        for (fan_in, fan_out), dilation in zip(pairs, model.layer_dilations, strict=True)
    ]
    return SpikingNetwork(model, linear, model.hidden_sizes, classes)
