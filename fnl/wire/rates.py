"""Firing rates as a report has them, and what a round without privacy gave."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from fnl.wire.fields import RATE

RATE_FLOOR = 1e-6
"""The least rate a rule is given of a client that releases its rates privately."""


@dataclass(frozen=True)
class Rates:
    """Firing rates of one model on a client's clips; mean activations of a model without spikes.

    Attributes:
        firing_rate: of the network.
        layers: of each spiking layer; a network without any has no rates, and nan for them.
        classes: means over the clips of each class, nan for a class without clips. Where rates are
            released privately it is the class' part of the network's rate instead, so that it does
            not tell which labels a client has.
    """

    firing_rate: Annotated[float, RATE, "firing_rate_{}"]
    layers: Annotated[list[float], RATE, "layer_rates_{}"]
    classes: Annotated[list[float], RATE, "class_rates_{}"]

    def withheld(self) -> Rates:
        """Return nan for every rate."""
        return self._each(lambda values: np.full_like(values, math.nan))

    def in_range(self, most: float = 1.0) -> Rates:
        """Return the rates put into [RATE_FLOOR, most]."""
        return self._each(lambda values: np.clip(values, RATE_FLOOR, most))

    def _each(self, change: Callable[[Any], Any]) -> Rates:
        parts = (np.array(part, np.float64) for part in (self.layers, self.classes))
        layers, classes = (change(part).tolist() for part in parts)
        return Rates(float(change(np.float64(self.firing_rate))), layers, classes)


@dataclass(frozen=True)
class Unprotected:
    """What a client's round gave without privacy: its shadow, or the floor with other draws.

    Attributes:
        rates: after training.
        distances: of each layer, the distance between its neurons' rates and the shadow's, the
            private model's for the shadow itself.
        neurons: of each layer, the mean distance of a neuron's rate from the private model's.
        update_norm: L2 norm of the update.
    """

    rates: Annotated[Rates, "{}"]
    distances: Annotated[list[float] | None, RATE, "layer_rates_{}_distance"] = None
    neurons: Annotated[list[float] | None, RATE, "layer_rates_{}_neurons"] = None
    update_norm: Annotated[float | None, "update_norm_{}"] = None
