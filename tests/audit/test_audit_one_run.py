"""The one-run bound: the paper's numbers, SciPy's binomial, and mechanisms of known ε."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, binomtest

from fnl.audit.one_run import bound_from_scores, lower_bound, p_value


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "printed"),
    [
        (1000, 100, 75, 1e-4, 0.673),  # arXiv 2305.08846, Appendix D
        (100_000, 1510, 1439, 1e-5, 2.675),  # section 7
    ],
)
def test_the_papers_own_numbers_come_out(canaries, guesses, correct, delta, printed):
    bound = lower_bound(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=0.95
    )
    assert bound == pytest.approx(printed, abs=1e-3)


@pytest.mark.parametrize(("guesses", "correct"), [(10, 10), (100, 60), (500, 499), (2000, 1200)])
def test_without_delta_it_is_the_binomial_tail_and_clopper_pearsons_bound(guesses, correct):
    for epsilon in (0.0, 0.5, 3.0):
        test = binomtest(correct, guesses, float(expit(epsilon)), alternative="greater")
        p = p_value(canaries=5000, guesses=guesses, correct=correct, epsilon=epsilon, delta=0.0)
        assert p == pytest.approx(test.pvalue, rel=1e-9)
    accuracy = binomtest(correct, guesses, alternative="greater").proportion_ci(0.95).low
    bound = lower_bound(canaries=5000, guesses=guesses, correct=correct, delta=0.0, confidence=0.95)
    assert bound == pytest.approx(max(logit(accuracy), 0.0), abs=2e-4)


@pytest.mark.parametrize("delta", [1e-5, 1e-3])
@pytest.mark.parametrize(("canaries", "guesses", "correct"), [(50, 50, 45), (400, 120, 119)])
def test_the_cost_of_delta_is_the_theorems_maximum(canaries, guesses, correct, delta):
    # written out term by term, with the distribution function instead of sums of masses
    for epsilon in (0.0, 1.0, 4.0):
        accuracy = 1 / (1 + np.exp(-epsilon))
        at_most = binom.cdf(np.arange(-1, correct), guesses, accuracy)
        below = [(at_most[correct] - at_most[correct - i]) / i for i in range(1, correct + 1)]
        expected = binom.sf(correct - 1, guesses, accuracy) + 2 * canaries * delta * max(below)
        p = p_value(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        assert p == pytest.approx(min(expected, 1.0), rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0])
def test_randomised_response_is_bounded_below_its_epsilon_and_nearly_reached(epsilon):
    # each coin is reported truly with probability e^ε/(1 + e^ε): exactly (ε, 0)-DP
    generator = np.random.default_rng(1)
    bounds = []
    for _ in range(300):
        included = generator.random(2000) < 0.5
        truthful = generator.random(2000) < expit(epsilon)
        correct = int(truthful.sum())
        reported = np.where(truthful, included, ~included)
        assert correct == int((reported == included).sum())
        bounds.append(
            lower_bound(canaries=2000, guesses=2000, correct=correct, delta=0.0, confidence=0.95)
        )
    assert np.mean(np.array(bounds) <= epsilon) >= 0.95 - 3 * (0.05 * 0.95 / 300) ** 0.5
    assert np.median(bounds) > 0.85 * epsilon - 0.02


def test_choosing_the_best_of_several_shares_is_paid_for():
    # scores that say nothing: without the correction the best of five would fail too often
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        bound = bound_from_scores(
            generator.standard_normal(300),
            generator.random(300) < 0.5,
            delta=0.0,
            confidence=0.9,
        )
        wrong += bound.lower_bound > 0
    assert wrong <= 0.1 * 400 + 3 * (400 * 0.1 * 0.9) ** 0.5


def test_a_rare_plain_leak_is_charged_to_delta():
    # a coin in fifty is shown openly, the others by randomised response: (1, 0.02)-DP
    generator = np.random.default_rng(3)
    found = {0.0: 0, 0.02: 0}
    for _ in range(100):
        included = generator.random(1000) < 0.5
        shown = generator.random(1000) < 0.02
        told = np.where(generator.random(1000) < expit(1.0), included, ~included)
        scores = np.where(shown, 2.0, 1.0) * np.where(np.where(shown, included, told), 1, -1)
        for delta in found:
            bound = bound_from_scores(
                scores, included, delta=delta, confidence=0.95, shares=(0.01,)
            )
            assert bound.guesses == 10
            found[delta] += bound.lower_bound > 1.0
    assert found[0.0] > 50  # (1, 0)-DP is rightly refuted
    assert found[0.02] <= 5


def test_the_gaussian_mechanism_is_bounded_below_its_epsilon():
    # σ = 1 at sensitivity 1: ε = 4.38 at δ = 1e-5 (Balle & Wang 2018, analytic Gaussian mechanism)
    generator = np.random.default_rng(4)
    bounds = []
    for _ in range(20):
        included = generator.random(5000) < 0.5
        scores = included + generator.standard_normal(5000)
        bounds.append(bound_from_scores(scores, included, delta=1e-5, confidence=0.95).lower_bound)
    assert max(bounds) < 4.38
    assert min(bounds) > 1.2


def test_impossible_counts_are_refused():
    for correct, guesses, canaries in [(-1, 5, 10), (6, 5, 10), (5, 11, 10)]:
        with pytest.raises(ValueError, match="a p-value takes"):
            p_value(canaries=canaries, guesses=guesses, correct=correct, epsilon=1.0, delta=0.0)
    with pytest.raises(ValueError, match="at least two canaries"):
        bound_from_scores(np.zeros(1), np.zeros(1, bool), delta=0.0, confidence=0.95)
    with pytest.raises(ValueError, match="at least two canaries"):
        bound_from_scores(np.zeros(3), np.zeros(2, bool), delta=0.0, confidence=0.95)
