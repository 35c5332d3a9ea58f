"""The feedforward and the recurrent network: dense layers between the spiking ones."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fnl.config import ModelGroup
from fnl.snn.networks.stack import SpikingNetwork, has_bias


def dense(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [Linear → normalisation → neurons → dropout] × L and a read-out.

    The recurrent network is the same with recurrent neurons; `build_neuron` chooses them.
    """
    sizes = (inputs, *model.hidden_sizes)
    linear = [nn.Linear(a, b, bias=has_bias(model)) for a, b in pairwise(sizes)]
    return SpikingNetwork(model, linear, model.hidden_sizes, classes)
