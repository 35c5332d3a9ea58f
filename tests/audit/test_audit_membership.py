"""Scores of members against others: scikit-learn's ROC, SciPy's intervals, a known ε."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from fnl.audit.membership import (
    auc,
    clopper_pearson,
    epsilon_of_rates,
    true_positive_rate,
)


@pytest.mark.parametrize("decimals", [0, 1, 8])  # with many, few and no ties
def test_auc_and_true_positive_rate_are_scikit_learns(decimals):
    generator = np.random.default_rng(0)
    members = generator.normal(1.0, 1.0, 300).round(decimals)
    others = generator.normal(0.0, 1.0, 200).round(decimals)
    labels = np.repeat([1, 0], [300, 200])
    scores = np.concatenate([members, others])
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.01, 0.1, 0.5):
        best = true[false <= rate].max()
        assert true_positive_rate(members, others, rate) == pytest.approx(best)


def test_without_members_or_others_there_is_no_curve():
    for members, others in [(np.zeros(0), np.ones(3)), (np.ones(3), np.zeros(0))]:
        assert math.isnan(auc(members, others))
        assert math.isnan(true_positive_rate(members, others, 0.1))


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 40), (777, 1000)])
def test_intervals_are_scipys_exact_ones(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.9, method="exact")
    assert clopper_pearson(successes, trials, 0.9) == pytest.approx(tuple(expected))
    with pytest.raises(ValueError, match="no interval"):
        clopper_pearson(trials + 1, trials, 0.9)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_epsilon_of_rates_holds_and_comes_near_on_randomised_response(epsilon):
    generator = np.random.default_rng(1)
    truthful = expit(epsilon)
    bounds = [
        epsilon_of_rates(
            (int(generator.binomial(3000, truthful)), 3000),
            (int(generator.binomial(3000, 1 - truthful)), 3000),
            delta=0.0,
            confidence=0.95,
        )
        for _ in range(300)
    ]
    assert np.mean(np.array(bounds) <= epsilon) >= 0.95 - 0.04
    assert np.median(bounds) > epsilon - 0.25


def test_rates_of_guessing_prove_nothing_and_delta_takes_from_the_proof():
    assert epsilon_of_rates((50, 100), (50, 100), delta=0.0, confidence=0.95) == 0.0
    proofs = [
        epsilon_of_rates((60, 1000), (2, 1000), delta=d, confidence=0.95) for d in (0.0, 0.02, 0.5)
    ]
    assert proofs[0] > proofs[1] > proofs[2] == 0.0
    # few misses prove as much as few false alarms do
    mirrored = epsilon_of_rates((998, 1000), (940, 1000), delta=0.0, confidence=0.95)
    assert mirrored == pytest.approx(proofs[0])
