"""Intervals and tests of grids against SciPy sample by sample, and against hand computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.grid.statistics import holm, paired_test, seed_interval


def test_two_seeds_have_no_interval():
    assert np.isnan(seed_interval(np.array([[1.0, 3.0]]))).all()


@pytest.mark.parametrize("size", [3, 7])
def test_the_interval_of_few_seeds_is_students(size):
    samples = np.random.default_rng(0).gamma(2.0, size=(3, size))
    low, high = seed_interval(samples)
    for row, sample in enumerate(samples):
        reference = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
        assert (low[row], high[row]) == pytest.approx((reference.low, reference.high), rel=1e-12)


def test_the_bootstrap_agrees_with_scipy_on_one_sample():
    samples = np.random.default_rng(0).gamma(2.0, size=(3, 12))
    low, high = seed_interval(samples)
    for row, sample in enumerate(samples):
        reference = stats.bootstrap(
            (sample,), np.mean, method="BCa", n_resamples=50_000, rng=np.random.default_rng(1)
        ).confidence_interval
        spread = sample.std() / np.sqrt(12)
        assert low[row] == pytest.approx(reference.low, abs=0.2 * spread)
        assert high[row] == pytest.approx(reference.high, abs=0.2 * spread)


@pytest.mark.parametrize(("size", "expected"), [(3, 0.95), (5, 0.95), (30, 0.94)])
def test_intervals_cover_the_mean_of_a_normal_about_as_often_as_they_say(size, expected):
    samples = np.random.default_rng(2).normal(size=(1000, size))
    low, high = seed_interval(samples)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(expected, abs=0.02)


def test_the_interval_of_what_does_not_vary_and_of_one():
    low, high = seed_interval(np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]))
    assert (low[0], high[0]) == (2.0, 2.0)
    assert low[1] < 2.0 < high[1]
    assert np.isnan(seed_interval(np.array([[2.0]]))).all()


def test_the_paired_test_is_scipys():
    ours, theirs = np.random.default_rng(3).normal(size=(2, 4, 6))
    expected = [stats.ttest_rel(a, b).pvalue for a, b in zip(ours, theirs, strict=True)]
    assert paired_test(ours - theirs) == pytest.approx(expected, rel=1e-12)


def test_the_paired_test_by_hand():
    # mean 2, standard deviation 1, t = 2 √3 with 2 degrees of freedom: p = 1 - t / √(t² + 2)
    t = 2 * np.sqrt(3)
    assert paired_test(np.array([[1.0, 2.0, 3.0]]))[0] == pytest.approx(1 - t / np.sqrt(t**2 + 2))


def test_the_paired_test_where_it_is_undefined():
    p_values = paired_test(np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))
    assert p_values[0] == 1.0
    assert np.isnan(p_values[1])
    assert np.isnan(paired_test(np.array([[0.3]]))[0])


def test_holm_by_hand():
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.5]))
    # ordered .01 .03 .04 .5, times 4 3 2 1, never below the one before
    assert adjusted[[0, 3, 1, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert np.isnan(adjusted[2])


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine drawing is slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_rejects_no_more_than_no_correction_and_no_less_than_bonferroni(p_values):
    raw = np.array(p_values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, raw * len(raw)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
