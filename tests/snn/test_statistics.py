"""Firing rates against their definition on a recorded spike train."""

import numpy as np
import pytest

from fnl.snn.statistics import SATURATED_RATE, FiringStatistics

CLASSES, STEPS, SIZES = 4, 25, (6, 3)
LABELS = np.array([0, 0, 1, 3, 3, 3, 1, 0, 3])  # no clip of class 2


@pytest.fixture
def trains() -> list[np.ndarray]:
    """Spikes [clips, T, F] of each layer; the first neuron is silent, the second saturated."""
    generator = np.random.default_rng(0)
    trains = [(generator.random((len(LABELS), STEPS, n)) < 0.2).astype(float) for n in SIZES]
    trains[0][:, :, 0] = 0
    trains[0][:, :, 1] = 1
    return trains


def statistics_of(trains: list[np.ndarray], labels: np.ndarray) -> FiringStatistics:
    spikes = tuple(
        np.stack([train[labels == c].sum(axis=(0, 1)) for c in range(CLASSES)]) for train in trains
    )
    clips = np.array([np.sum(labels == c) for c in range(CLASSES)])
    return FiringStatistics(spikes, clips, STEPS)


def test_rates_are_means_over_clips_steps_and_neurons(trains):
    firing = statistics_of(trains, LABELS)
    everything = np.concatenate(trains, axis=2)
    assert firing.neurons == SIZES
    for layer, train in enumerate(trains):
        np.testing.assert_allclose(firing.neuron_rates(layer), train.mean(axis=(0, 1)))
    np.testing.assert_allclose(firing.layer_rates(), [train.mean() for train in trains])
    assert firing.rate() == pytest.approx(everything.mean())
    # weighted by neurons: not the mean of the layers' rates
    assert firing.rate() != pytest.approx(firing.layer_rates().mean(), rel=1e-3)


def test_class_rates_are_means_over_the_clips_of_a_class_and_nan_without(trains):
    everything = np.concatenate(trains, axis=2)
    expected = [everything[c == LABELS].mean() if c != 2 else np.nan for c in range(CLASSES)]
    np.testing.assert_allclose(statistics_of(trains, LABELS).class_rates(), expected)


def test_the_class_rates_make_up_the_rate(trains):
    firing = statistics_of(trains, LABELS)
    together = np.nansum(firing.class_rates() * firing.clips) / firing.clips.sum()
    assert firing.rate() == pytest.approx(together)


def test_statistics_of_disjoint_clips_add(trains):
    first, second = np.arange(9) < 4, np.arange(9) >= 4
    parts = [statistics_of([t[part] for t in trains], LABELS[part]) for part in (first, second)]
    added, whole = parts[0] + parts[1], statistics_of(trains, LABELS)
    for a, b in zip(added.spikes, whole.spikes, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(added.clips, whole.clips)
    assert added.rate() == whole.rate()
    assert parts[0].clips.sum() == 4  # the parts stay as they were


def test_statistics_of_clips_of_another_length_or_network_do_not_add(trains):
    whole = statistics_of(trains, LABELS)
    with pytest.raises(ValueError, match="steps"):
        whole + FiringStatistics(whole.spikes, whole.clips, STEPS + 1)
    with pytest.raises(ValueError, match="shorter"):
        whole + FiringStatistics(whole.spikes[:1], whole.clips, STEPS)


def test_silent_and_saturated_neurons_are_shares_of_a_layer(trains):
    firing = statistics_of(trains, LABELS)
    np.testing.assert_allclose(firing.silent_fractions(), [1 / 6, 0])
    np.testing.assert_allclose(firing.saturated_fractions(), [1 / 6, 0])
    assert firing.over_neurons(firing.silent_fractions()) == pytest.approx(1 / 9)


def test_saturated_is_above_the_bound_and_silent_is_never():
    steps = 100
    counts = np.array([[0, 1, round(SATURATED_RATE * steps), round(SATURATED_RATE * steps) + 1]])
    firing = FiringStatistics((counts.astype(float),), np.array([1]), steps)
    assert firing.saturated_fractions().tolist() == [0.25]
    assert firing.silent_fractions().tolist() == [0.25]
