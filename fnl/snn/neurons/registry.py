"""Neurons by the name a configuration uses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fnl.config import ModelGroup
from fnl.import_path import imported
from fnl.snn.neurons.adaptive import A_RANGE, B_RANGE, AdaptiveLIF
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.neurons.synaptic import Synaptic
from fnl.snn.surrogates import SURROGATES, Surrogate

NeuronBuilder = Callable[[ModelGroup, int], nn.Module]
"""Makes the neurons of one layer, [B, T, F] -> spikes [B, T, F], from the model and F."""


def lif(model: ModelGroup, features: int) -> nn.Module:
    """Return leaky integrate-and-fire neurons."""
    return LIF(
        each(model.beta, features, trained=model.learn_beta),
        learn_beta=model.learn_beta,
        **_options(model, features),
    )


def recurrent_lif(model: ModelGroup, features: int) -> nn.Module:
    """Return LIF neurons that hear each other's last spikes."""
    return RecurrentLIF(
        features,
        each(model.beta, features, trained=model.learn_beta),
        bias=False,
        learn_beta=model.learn_beta,
        **_options(model, features),
    )


def synaptic(model: ModelGroup, features: int) -> nn.Module:
    """Return LIF neurons behind a synaptic current, which decays, too."""
    learn = model.learn_beta
    return Synaptic(
        each(model.synaptic_decay, features, trained=learn),
        each(model.beta, features, trained=learn),
        learn_alpha=learn,
        learn_beta=learn,
        **_options(model, features),
    )


def adaptive_lif(model: ModelGroup, features: int) -> nn.Module:
    """Return adaptive LIF neurons; untrained ones adapt by their spikes alone (a = 0)."""
    learn = model.learn_beta
    return AdaptiveLIF(
        each(model.beta, features, trained=learn),
        each(model.adaptation_decay, features, trained=learn),
        each(0.0, features, trained=learn),
        each(model.adaptation, features, trained=learn),
        learn_alpha=learn,
        learn_beta=learn,
        learn_a=learn,
        learn_b=learn,
        **_options(model, features),
    )


NEURONS: dict[str, NeuronBuilder] = {
    "lif": lif,
    "recurrent-lif": recurrent_lif,
    "synaptic": synaptic,
    "adlif": adaptive_lif,
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


def surrogate_of(model: ModelGroup) -> Surrogate:
    """Return the surrogate gradient that `model` names."""
    return SURROGATES[model.surrogate.replace("-", "_")](model.surrogate_slope)


def start_ranges(neuron: SpikingLayer, model: ModelGroup) -> dict[str, tuple[float, float]]:
    """Return the uniform range in which each of a neuron's trained values starts.

    Membranes start in `model.beta_range`; adaptation where Bittar and Garner 2022 start it.
    """
    if isinstance(neuron, AdaptiveLIF):
        decay = (math.exp(-1 / 30), math.exp(-1 / 120))
        return {"alpha": model.beta_ends, "beta": decay, "a": A_RANGE, "b": B_RANGE}
    if isinstance(neuron, Synaptic):
        return {"alpha": model.beta_ends, "beta": model.beta_ends}
    return {"beta": model.beta_ends}


def each(value: float, features: int, *, trained: bool) -> float | torch.Tensor:
    """Return a value for the layer, or one a neuron [F] where it is trained."""
    return torch.full((features,), value) if trained else value


def _options(model: ModelGroup, features: int) -> dict[str, Any]:
    """Return what all kinds of neurons share."""
    return {
        "threshold": each(model.threshold, features, trained=model.learn_threshold),
        "learn_threshold": model.learn_threshold,
        "surrogate": surrogate_of(model),
        "reset": model.reset,
        "beta_map": "sigmoid" if model.learn_beta else "clamp",
    }
