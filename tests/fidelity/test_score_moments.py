"""Moments of scores in noise against draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fnl.fidelity.moments import (
    ScoreMoments,
    distance_moments,
    folded_covariance,
    folded_mean,
    through,
)

DRAWS = 200_000


def test_folded_means_are_scipys():
    mean, deviation = np.array([-1.0, 0.0, 0.3, 2.0, -0.5]), np.array([1.0, 2.0, 0.1, 0.5, 0.0])
    expected = [
        stats.foldnorm(abs(m) / s, scale=s).mean() if s else abs(m)
        for m, s in zip(mean, deviation, strict=True)
    ]
    np.testing.assert_allclose(folded_mean(mean, deviation), expected)


def test_covariances_of_absolute_values_are_those_of_draws():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(4, 4))
    root[3] = 0  # a class without noise
    mean, covariance = np.array([0.2, -1.0, 0.0, 0.7]), root @ root.T
    draws = np.abs(mean + generator.normal(size=(DRAWS, 4)) @ root.T)
    found = np.cov(draws.T)
    computed = folded_covariance(mean, covariance)
    np.testing.assert_allclose(computed, found, atol=0.03)
    np.testing.assert_allclose(computed, computed.T, atol=2e-3)
    several = folded_covariance(np.stack([mean, -mean]), np.stack([covariance, covariance]))
    np.testing.assert_allclose(several[1], computed, atol=1e-10)


def test_any_function_of_a_normal_variable_has_the_moments_of_draws():
    def score(rate):
        return -np.maximum(0.0, np.abs(rate - 0.1) - 0.02)

    mean, variance = through(score, np.array([0.05, 0.12]), np.array([0.03, 0.01]))
    draws = np.random.default_rng(1).normal([0.05, 0.12], [0.03, 0.01], (DRAWS, 2))
    np.testing.assert_allclose(mean, score(draws).mean(0), atol=3e-4)
    np.testing.assert_allclose(variance, score(draws).var(0), rtol=0.02)


@pytest.mark.parametrize("length", [0.0, 0.5, 5.0])
def test_the_norm_of_a_noisy_update_has_the_moments_of_draws(length):
    update = np.zeros(900)
    update[0] = length
    draws = np.random.default_rng(2).normal(update, 0.1, (4000, 900))
    norms = np.linalg.norm(draws, axis=1)
    mean, variance = distance_moments(np.array(length), np.array(0.1), 900)
    assert mean == pytest.approx(norms.mean(), rel=1e-3)
    assert variance == pytest.approx(norms.var(), rel=0.1)


def test_the_correlation_within_rounds_is_that_of_drawn_scores():
    generator = np.random.default_rng(3)
    clean = generator.normal(size=(400, 20)) + generator.normal(size=(400, 1)) * 50
    noise = generator.normal(size=(400, 20)) * 0.7
    expected = 0.5 * clean
    noisy = expected + noise
    a, b = ((part - part.mean(1, keepdims=True)).ravel() for part in (clean, noisy))
    moments = ScoreMoments(clean, expected, np.full_like(clean, 0.49))
    assert moments.correlation() == pytest.approx(np.corrcoef(a, b)[0, 1], abs=0.02)
    flat = ScoreMoments(np.ones((3, 4)), np.ones((3, 4)), np.ones((3, 4)))
    assert flat.correlation() == 0


def test_tau_of_given_candidates_is_that_of_draws_however_heavy_their_tails():
    generator = np.random.default_rng(5)
    clean = generator.standard_t(1.5, size=(30, 12))
    mean, variance = 0.7 * clean + 0.1, generator.random((30, 12))
    taus = [
        stats.kendalltau(a, m + np.sqrt(v) * generator.normal(size=12)).statistic
        for a, m, v in zip(clean, mean, variance, strict=True)
        for _ in range(60)
    ]
    moments = ScoreMoments(clean, mean, variance)
    assert moments.tau() == pytest.approx(np.mean(taus), abs=0.015)
    assert ScoreMoments(clean, mean, np.zeros_like(clean)).tau() == pytest.approx(1)
    assert ScoreMoments(np.ones((2, 3)), mean[:2, :3], variance[:2, :3]).tau() == 0
