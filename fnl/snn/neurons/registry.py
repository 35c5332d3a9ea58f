"""Neurons by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fnl.config import ModelGroup
from fnl.import_path import imported
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.synaptic import Synaptic

NeuronBuilder = Callable[[ModelGroup, int], nn.Module]
"""Makes the neurons of one layer, [B, T, F] -> spikes [B, T, F], from the model and F."""


NEURONS: dict[str, NeuronBuilder] = {
    "lif": LIF.build,
    "recurrent-lif": RecurrentLIF.build,
    "synaptic": Synaptic.build,
    "adlif": AdaptiveLIF.build,
}
"""Neurons by name; `fnl.config.NEURONS` lists the same names."""


def build_neuron(model: ModelGroup, features: int) -> nn.Module:
    """Return the neurons that `model` names, `features` of them.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported.
    """
    name = "recurrent-lif" if model.network == "recurrent" else model.neuron
    builder = NEURONS.get(name) or imported("model.neuron", name)
    return builder(model, features)
