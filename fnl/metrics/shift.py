"""Rate shift: how far firing rates moved from those of a non-private counterpart. Pure functions.

The shift of a rate is r − r′, with r′ the rate of the shadow: signed, in spikes per neuron and
step. Means hide shifts that cancel, so distances stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from fnl.snn.statistics import FiringStatistics


@dataclass(frozen=True)
class LayerShift:
    """How the rates of one layer's neurons differ between two networks of one shape.

    Attributes:
        mean: mean of r_j − r′_j over neurons j.
        distance: Wasserstein-1 distance of the two distributions of rates over neurons. It does
            not see which neuron has which rate.
        neuron: mean of |r_j − r′_j|, neuron by neuron. |mean| <= distance <= neuron.
    """

    mean: float
    distance: float
    neuron: float


def layer_shifts(rates: FiringStatistics, reference: FiringStatistics) -> list[LayerShift]:
    """Return the shift of every spiking layer from `reference` to `rates`.

    Raises:
        ValueError: if the networks differ in layers or neurons.
    """
    if rates.neurons != reference.neurons:
        raise ValueError(f"layers of {rates.neurons} and {reference.neurons} neurons have no shift")
    return [
        _layer_shift(rates.neuron_rates(layer), reference.neuron_rates(layer))
        for layer in range(len(rates.neurons))
    ]


def _layer_shift(rates: NDArray[np.float64], reference: NDArray[np.float64]) -> LayerShift:
    shift = rates - reference
    return LayerShift(
        mean=float(shift.mean()),
        distance=float(scipy.stats.wasserstein_distance(rates, reference)),
        neuron=float(np.abs(shift).mean()),
    )


def class_shift(rates: Sequence[float], reference: Sequence[float]) -> float | None:
    """Return the mean of |r_c − r′_c| over the classes c that have clips; None if none has.

    Args:
        rates: network rate on the clips of each class, nan where there are none, [C].
        reference: the same of the counterpart, on the same clips.
    """
    shift = np.abs(np.asarray(rates, np.float64) - np.asarray(reference, np.float64))
    known = shift[~np.isnan(shift)]
    return float(known.mean()) if known.size else None
