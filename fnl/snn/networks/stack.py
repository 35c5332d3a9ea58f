"""What every network is: spiking layers one after the other, then a read-out.

    encoder → [linear map → normalisation → spiking neurons → dropout] × L → read-out

Networks differ in their linear maps (dense, convolutions); the rest is the same for all. The
read-out is given the last layer's spikes, or all layers' (`model.readout-layers`). Layers
run one after the other with all steps of time inside each. Clips never meet in any of them, so
that per-clip gradients are well defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fnl.clip_draws import Draws
from fnl.config import NEURONS, ModelGroup
from fnl.import_path import builder_of
from fnl.snn.dropout import Dropout
from fnl.snn.encoders import Encoder, build_encoder
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.networks.gathering import Gathering, Tap
from fnl.snn.neurons.lif import LeakyReadout
from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.recurrent import RecurrentRectified
from fnl.snn.normalisation import build_normalisation


@dataclass(frozen=True)
class Trace:
    """What went through a network.

    Attributes:
        logits: [B, C].
        signals: what enters each linear map and the read-out: the encoded input, then the spikes
            of each spiking layer, [B, T, F_l]; at last those of all, if the read-out has them.
        counts: spikes per clip and neuron of each spiking layer, [B, F_l].
        statistics: of spikes and membranes of each spiking layer; None where they were not asked
            for, and for a neuron of one's own that has no `observe`.
    """

    logits: Tensor
    signals: tuple[Tensor, ...]
    counts: list[Tensor]
    statistics: tuple[SpikeStatistics | None, ...]


class SpikingNetwork(nn.Module):
    """Spiking layers and a read-out: [B, T, F] -> logits [B, C].

    The logits are the time mean of a leaky integrator without reset over a dense layer
    (`model.readout = membrane`), or the dense layer of the mean spikes (`mean`).

    Args:
        model: neurons, normalisation, dropout, read-out and encoding.
        linear: a map [B, T, F_(l-1)] -> [B, T, F_l] for each spiking layer, with biases only
            where `has_bias(model)`.
        sizes: F_l, neurons of each spiking layer.
        classes: C.

    Attributes:
        encoder: features in, what the first linear map gets out.
        linear: the synapses of each spiking layer.
        norm: the normalisation of each layer's current.
        neuron: the spiking neurons of each layer.
        dropout: of each layer's spikes, in training.
        tap: what keeps each layer's spikes for a read-out that is given those of all layers.
        gathering: gives it those.
        readout: the read-out's synapses and integrator.
    """

    def __init__(
        self, model: ModelGroup, linear: Iterable[nn.Module], sizes: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        self.model = model
        self.linear = nn.ModuleList(linear)
        self.norm = nn.ModuleList(build_normalisation(model, size) for size in sizes)
        self.neuron = nn.ModuleList(build_neuron(model, size) for size in sizes)
        # a leaky integrator that leaks all at every step is its own input
        leak = model.beta if model.readout == "membrane" else 0.0
        whole = model.readout_layers == "all"
        given = sum(sizes) if whole else sizes[-1]
        self.readout = LeakyReadout(given, classes, leak, standardise=model.standardise)
        self.dropout = nn.ModuleList(Dropout(model.dropout) for _ in sizes)
        taps = [Tap() if whole else nn.Identity() for _ in sizes[1:]]
        self.tap = nn.ModuleList([*taps, nn.Identity()])
        self.gathering = Gathering(self.tap) if whole else nn.Identity()
        self.encoder: Encoder = build_encoder(model)

    @property
    def spikes(self) -> bool:
        """Whether layers send spikes; else any numbers from zero."""
        return self.model.spikes

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those the parameters are of, which stay.

        Time constants and delays keep their length and constant inputs their steady states. Spikes
        are sent on with an amplitude that makes up for their number in a step.

        Raises:
            ConfigError: if a layer has no meaning in such steps.
        """
        if ratio == 1:
            return
        for module in (*self.linear, *self.neuron, self.readout):
            if callable(turn := getattr(module, "in_time", None)):
                turn(ratio)
        for dropout in self.dropout:
            if isinstance(dropout, Dropout) and self.spikes:
                dropout.amplitude = 1 / ratio

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of inputs [B, T, F]."""
        signal = inputs
        for module in self.chain():
            signal = module(signal)
        return signal

    def chain(self) -> list[nn.Module]:
        """Return the modules that `forward` runs one after the other."""
        layers = [
            part
            for layer, tap in zip(self._layers(), self.tap, strict=True)
            for part in (*layer, tap)
        ]
        return [self.encoder, *layers, self.gathering, self.readout]

    @torch.no_grad()
    def trace(self, inputs: Tensor, *, membranes: bool = True) -> Trace:
        """Return logits, signals and spike counts of inputs [B, T, F] out of one pass.

        Without `membranes` their statistics are left out, which takes an eighth less time.
        """
        signals, counts, statistics = [self.encoder(inputs)], [], []
        for (linear, norm, neuron, dropout), tap in zip(self._layers(), self.tap, strict=True):
            spikes, count, observed = _observe(neuron, norm(linear(signals[-1])), membranes)
            signals.append(tap(dropout(spikes)))
            counts.append(count)
            statistics.append(observed)
        signals[-1] = self.gathering(signals[-1])
        return Trace(self.readout(signals[-1]), tuple(signals), counts, tuple(statistics))

    def spike_trains(self, inputs: Tensor) -> list[Tensor]:
        """Return the spikes of each spiking layer [B, T, F_l], differentiable, no read-out."""
        signal, trains = self.encoder(inputs), []
        for linear, norm, neuron, dropout in self._layers():
            trains.append(neuron(norm(linear(signal))))
            signal = dropout(trains[-1])
        return trains

    def synapses(self) -> list[Tensor]:
        """Return the weights of all linear maps from the inputs to the read-out.

        Matrices [F_out, F_in], of convolutions [C_out, C_in, *kernel]; recurrent ones belong to
        their neurons and are not among them.
        """
        maps = (*self.linear, self.readout)
        return [p for layer in maps for p in layer.parameters() if p.ndim > 1]

    def _layers(self) -> Iterable[tuple[nn.Module, ...]]:
        return zip(self.linear, self.norm, self.neuron, self.dropout, strict=True)


_TWINS = {"lif": Rectified.build, "recurrent-lif": RecurrentRectified.build}


def build_neuron(model: ModelGroup, features: int) -> nn.Module:
    """Return the neurons that `model` names, `features` of them.

    Under `model.activation = relu` these are the twins of what it names.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported.
    """
    name = "recurrent-lif" if model.network == "recurrent" else model.neuron
    if not model.spikes:
        return _TWINS[name](model, features)
    return builder_of("model.neuron", name, NEURONS)(model, features)


def has_bias(model: ModelGroup) -> bool:
    """Return whether linear maps have biases: normalisation would take them out again."""
    return model.normalisation == "none"


def drawing_layers(network: nn.Module) -> list[Dropout | Encoder]:
    """Return the layers of `network` that may draw, each with its number."""
    dropouts = [module for module in network.modules() if isinstance(module, Dropout)]
    for number, layer in enumerate(dropouts):
        layer.number = number
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    return [layer for layer in dropouts if layer.probability > 0] + encoders


def set_draws(layers: nn.Module | Iterable[Dropout | Encoder], draws: Draws) -> None:
    """Give dropout and encoder what the clips of the next mini-batch draw.

    That depends on clips, step and the keys of `draws` alone, not on who else is in the
    mini-batch: a run, its twin and its shadow drop the same spikes.

    Args:
        layers: a network, or its `drawing_layers` where it is done in every step.
        draws: of the clips that the network is called with next, in their order.
    """
    for layer in drawing_layers(layers) if isinstance(layers, nn.Module) else layers:
        layer.draws = draws


def _observe(
    neuron: Any, current: Tensor, membranes: bool
) -> tuple[Tensor, Tensor, SpikeStatistics | None]:
    """Return spikes [B, T, F], their counts [B, F] and, of a neuron that has them, statistics."""
    if membranes and hasattr(neuron, "observe"):
        spikes, statistics = neuron.observe(current)
        return spikes, statistics.spike_counts, statistics
    spikes = neuron(current)
    return spikes, spikes.sum(1), None
