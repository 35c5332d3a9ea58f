"""Rate shifts against SciPy, sorting and definitions on known rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fnl.metrics.shift import class_shift, layer_shifts
from fnl.snn.statistics import FiringStatistics

STEPS = 10
counts = arrays(np.int64, (3, 8), elements=st.integers(0, 3 * STEPS))


def statistics(*layers: np.ndarray) -> FiringStatistics:
    """Spikes [C, F_l] of each layer, three clips of each class."""
    clips = np.full(len(layers[0]), 3)
    return FiringStatistics(tuple(layer.astype(float) for layer in layers), clips, STEPS)


@given(counts, counts, counts, counts)
def test_the_distance_is_wasserstein_1_over_neurons_of_each_layer(a, b, c, d):
    shifts = layer_shifts(statistics(a, c), statistics(b, d))
    for shift, (x, y) in zip(shifts, ((a, b), (c, d)), strict=True):
        rates, reference = x.sum(0) / (9 * STEPS), y.sum(0) / (9 * STEPS)
        # of as many points each, the best transport goes by rank
        assert shift.distance == pytest.approx(np.abs(np.sort(rates) - np.sort(reference)).mean())
        assert shift.distance == stats.wasserstein_distance(rates, reference)
        assert shift.mean == pytest.approx(rates.mean() - reference.mean(), abs=1e-15)
        assert shift.neuron == pytest.approx(np.mean(np.abs(rates - reference)))
        assert abs(shift.mean) <= shift.distance + 1e-15 <= shift.neuron + 2e-15


def test_what_each_of_the_three_sees():
    one = np.tile([0, 6, 12], (3, 1))
    (same,) = layer_shifts(statistics(one), statistics(one))
    assert (same.mean, same.distance, same.neuron) == (0, 0, 0)
    (exchanged,) = layer_shifts(statistics(one[:, ::-1]), statistics(one))
    assert (exchanged.mean, exchanged.distance) == (0, 0)
    assert exchanged.neuron == pytest.approx((0.4 + 0 + 0.4) / 3)
    (spread,) = layer_shifts(statistics(np.tile([0, 3, 15], (3, 1))), statistics(one))
    assert spread.mean == pytest.approx(0)
    assert spread.distance == pytest.approx((0 + 0.1 + 0.1) / 3)
    (more,) = layer_shifts(statistics(one + 3), statistics(one))
    assert (more.mean, more.distance, more.neuron) == pytest.approx((0.1, 0.1, 0.1))


def test_networks_of_other_layers_have_no_shift():
    with pytest.raises(ValueError, match=r"\(8,\) and \(7,\)"):
        layer_shifts(statistics(np.ones((3, 8))), statistics(np.ones((3, 7))))


def test_the_class_shift_leaves_out_classes_without_clips():
    assert class_shift([0.3, np.nan, 0.1], [0.1, np.nan, 0.2]) == pytest.approx((0.2 + 0.1) / 2)
    assert class_shift([np.nan, np.nan], [np.nan, np.nan]) is None
