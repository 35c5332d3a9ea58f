"""The law against draws of Gaussian scores, SciPy and known values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fnl.fidelity.law import _above as above
from fnl.fidelity.law import (
    correlation_of_tau,
    flip_rate,
    jaccard,
    selection_gain,
)
from fnl.metrics import ranking

DRAWS = 3000


def drawn(correlation: float, candidates: int) -> np.ndarray:
    """Return clean and noisy scores, [draws, 2, d]."""
    clean, other = np.random.default_rng(4).normal(size=(2, DRAWS, candidates))
    return np.stack([clean, correlation * clean + np.sqrt(1 - correlation**2) * other], axis=1)


@pytest.mark.parametrize("correlation", [-0.4, 0.0, 0.3, 0.8, 0.97])
@pytest.mark.parametrize(("candidates", "selected"), [(12, 8), (20, 10), (40, 5)])
def test_tau_flips_and_jaccard_are_those_of_drawn_scores(correlation, candidates, selected):
    pairs = drawn(correlation, candidates)
    taus = [stats.kendalltau(a, b).statistic for a, b in pairs[:800]]
    assert correlation_of_tau(float(np.mean(taus))) == pytest.approx(correlation, abs=0.02)
    found = [ranking.flip_rate(a, b, selected) for a, b in pairs]
    expected = flip_rate(correlation, candidates, selected)
    assert expected == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(DRAWS))
    overlaps = [ranking.jaccard(a, b, selected) for a, b in pairs]
    assert jaccard(expected) == pytest.approx(np.mean(overlaps), abs=0.03)


def test_what_is_the_same_does_not_flip_and_chance_flips_what_is_not_selected():
    assert flip_rate(1.0, 20, 10) == 0 == flip_rate(0.3, 8, 8)
    for candidates, selected in ((20, 10), (12, 8), (100, 10)):
        expected = 1 - selected / candidates
        assert flip_rate(0.0, candidates, selected) == pytest.approx(expected, abs=1e-6)
    rates = [flip_rate(rho, 20, 5) for rho in (-0.5, 0, 0.5, 0.9, 0.99, 0.9999)]
    assert rates == sorted(rates, reverse=True)


def test_quadrants_are_those_of_scipy():
    grid = np.array([-2.0, -0.3, 0.0, 0.7, 3.0])
    x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
    for correlation in (-0.9, 0.0, 0.2, 0.95):
        covariance = [[1, correlation], [correlation, 1]]
        expected = [
            stats.multivariate_normal([0, 0], covariance).cdf([-a, -b])
            for a, b in zip(x, y, strict=True)
        ]
        np.testing.assert_allclose(above(x, y, correlation), expected, atol=1e-6)


def test_the_gain_is_that_of_order_statistics():
    sorted_scores = np.sort(np.random.default_rng(0).normal(size=(40000, 20)), axis=1)
    assert selection_gain(20, 5) == pytest.approx(sorted_scores[:, -5:].mean(), abs=0.01)
    assert selection_gain(20, 20) == pytest.approx(0, abs=1e-9)
