"""Firing-rate statistics: sums that add up over batches, and the rates derived from them.

A firing rate is spikes per neuron per time step, in [0, 1] (the design's term). Everything is kept
as sums of spikes per (class, neuron), so statistics of disjoint sets of clips add. A network
without spiking neurons has no rates: they are nan. A built-in network's twin without spikes has
mean activations in their place, which have no upper end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SATURATED_RATE = 0.95
"""A neuron that fires in more than this share of all time steps counts as saturated."""


@dataclass(frozen=True)
class FiringStatistics:
    """Spike sums of one network over a set of clips.

    Attributes:
        spikes: for each spiking layer the spikes per class and neuron, float64 [C, F_l].
        clips: clips per class, int64 [C].
        steps: time steps T of a clip, of those that rates are per.
        spiking: whether they are spikes; else activations of any size from zero.
    """

    spikes: tuple[NDArray[np.float64], ...]
    clips: NDArray[np.int64]
    steps: int
    spiking: bool = True

    def __add__(self, other: FiringStatistics) -> FiringStatistics:
        """Return the statistics of both sets of clips together.

        Raises:
            ValueError: if the clips differ in steps or the networks in layers.
        """
        if self.steps != other.steps:
            raise ValueError(f"clips of {self.steps} and {other.steps} steps have no common rate")
        spikes = tuple(a + b for a, b in zip(self.spikes, other.spikes, strict=True))
        return replace(self, spikes=spikes, clips=self.clips + other.clips)

    @property
    def neurons(self) -> tuple[int, ...]:
        """Neurons of each spiking layer."""
        return tuple(layer.shape[1] for layer in self.spikes)

    def neuron_rates(self, layer: int) -> NDArray[np.float64]:
        """Return the rate of each neuron of `layer` over all clips: float64 [F_l]."""
        return self.spikes[layer].sum(axis=0) / (self.clips.sum() * self.steps)

    def layer_rates(self) -> NDArray[np.float64]:
        """Return r_l, the mean rate of each spiking layer: float64 [L]."""
        return np.array([self.neuron_rates(layer).mean() for layer in range(len(self.spikes))])

    def rate(self) -> float:
        """Return the network rate r: the neuron-weighted mean over spiking layers."""
        return self.over_neurons(self.layer_rates())

    def class_rates(self) -> NDArray[np.float64]:
        """Return the network rate on the clips of each class: float64 [C], nan where no clips."""
        spikes = sum(layer.sum(axis=1) for layer in self.spikes)
        possible = self.clips * float(self.steps * sum(self.neurons))
        return np.divide(spikes, possible, out=np.full(len(possible), np.nan), where=possible > 0)

    def silent_fractions(self) -> NDArray[np.float64]:
        """Return the share of neurons of each layer that never fired: float64 [L]."""
        return np.array([float(np.mean(layer.sum(axis=0) == 0)) for layer in self.spikes])

    def saturated_fractions(self) -> NDArray[np.float64]:
        """Return the share of neurons of each layer above `SATURATED_RATE`: float64 [L].

        nan for activations, which have no most.
        """
        layers = range(len(self.spikes))
        if not self.spiking:
            return np.full(len(self.spikes), np.nan)
        return np.array([float(np.mean(self.neuron_rates(n) > SATURATED_RATE)) for n in layers])

    def over_neurons(self, fractions: NDArray[np.float64]) -> float:
        """Return the neuron-weighted mean of a per-layer quantity [L]."""
        if not self.neurons:
            return float("nan")
        return float(np.average(fractions, weights=self.neurons))
