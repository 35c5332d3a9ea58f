"""The neurons that a configuration names."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fnl.config import NEURONS, ModelGroup
from fnl.import_path import builder_of

NeuronBuilder = Callable[[ModelGroup, int], nn.Module]
"""Makes the neurons of one layer, [B, T, F] -> spikes [B, T, F], from the model and F."""


def build_neuron(model: ModelGroup, features: int) -> nn.Module:
    """Return the neurons that `model` names, `features` of them.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported.
    """
    name = "recurrent-lif" if model.network == "recurrent" else model.neuron
    builder: NeuronBuilder = builder_of("model.neuron", name, NEURONS)
    return builder(model, features)
