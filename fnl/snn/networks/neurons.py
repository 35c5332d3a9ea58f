"""Neurons by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fnl.config import ModelGroup
from fnl.snn.adaptive import AdaptiveLIF
from fnl.snn.neurons import LIF
from fnl.snn.own import own
from fnl.snn.recurrent import RecurrentLIF
from fnl.snn.surrogates import SURROGATES, Surrogate
from fnl.snn.synaptic import Synaptic

NeuronBuilder = Callable[[ModelGroup, int], nn.Module]
"""Makes the neurons of one layer, [B, T, F] -> spikes [B, T, F], from the model and F."""


def lif(model: ModelGroup, features: int) -> nn.Module:
    """Return leaky integrate-and-fire neurons."""
    return LIF(
        decay_of(model, features),
        threshold_of(model, features),
        reset=model.reset,
        surrogate=surrogate_of(model),
        learn_beta=model.learn_beta,
        learn_threshold=model.learn_threshold,
        beta_map="sigmoid" if model.learn_beta else "clamp",
    )


def recurrent_lif(model: ModelGroup, features: int) -> nn.Module:
    """Return LIF neurons that hear each other's last spikes."""
    return RecurrentLIF(
        features,
        decay_of(model, features),
        threshold_of(model, features),
        bias=False,
        reset=model.reset,
        surrogate=surrogate_of(model),
        learn_beta=model.learn_beta,
        learn_threshold=model.learn_threshold,
        beta_map="sigmoid" if model.learn_beta else "clamp",
    )


def synaptic(model: ModelGroup, features: int) -> nn.Module:
    """Return LIF neurons whose input current decays too (second order)."""
    return Synaptic(
        model.synaptic_decay,
        decay_of(model, features),
        threshold_of(model, features),
        reset=model.reset,
        surrogate=surrogate_of(model),
        learn_beta=model.learn_beta,
        learn_threshold=model.learn_threshold,
        beta_map="sigmoid" if model.learn_beta else "clamp",
    )


def adlif(model: ModelGroup, features: int) -> nn.Module:
    """Return LIF neurons with adaptation; `model.beta` is their membrane's decay."""
    return AdaptiveLIF(
        decay_of(model, features),
        model.adaptation_decay,
        model.adaptation_membrane,
        model.adaptation_spike,
        threshold_of(model, features),
        reset=model.reset,
        surrogate=surrogate_of(model),
        learn_alpha=model.learn_beta,
        learn_threshold=model.learn_threshold,
        beta_map="sigmoid" if model.learn_beta else "clamp",
    )


NEURONS: dict[str, NeuronBuilder] = {
    "lif": lif,
    "recurrent-lif": recurrent_lif,
    "synaptic": synaptic,
    "adlif": adlif,
}
"""Neurons by name; `fnl.config.NEURONS` lists the same names."""


def build_neuron(model: ModelGroup, features: int) -> nn.Module:
    """Return the neurons that `model` names, `features` of them.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported.
    """
    name = "recurrent-lif" if model.network == "recurrent" else model.neuron
    builder = NEURONS.get(name) or own("model.neuron", name)
    return builder(model, features)


def surrogate_of(model: ModelGroup) -> Surrogate:
    """Return the surrogate gradient that `model` names."""
    return SURROGATES[model.surrogate.replace("-", "_")](model.surrogate_slope)


def decay_of(model: ModelGroup, features: int) -> float | torch.Tensor:
    """Return β of a layer: one number, or one a neuron [F] where it is trained.

    `initialise` draws the trained ones from `model.beta_range`.
    """
    return torch.full((features,), model.beta) if model.learn_beta else model.beta


def threshold_of(model: ModelGroup, features: int) -> float | torch.Tensor:
    """Return θ of a layer: one number, or one a neuron [F] where it is trained."""
    return torch.full((features,), model.threshold) if model.learn_threshold else model.threshold
