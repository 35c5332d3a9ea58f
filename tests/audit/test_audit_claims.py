"""Claims: what the ledger says of the right mechanism, and by how much the broken ones lie."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fnl.audit.claims import Mechanism, Work, claim

DELTA = 1e-5


def true_epsilon(noise_multiplier: float, work: Work) -> float:
    """ε of everything released at sampling rate 1: k steps are one of σ/√k.

    Balle & Wang 2018 (arXiv 1805.06530), theorem 8: the analytic Gaussian mechanism.
    """
    mu = (work.steps * work.rounds) ** 0.5 / noise_multiplier

    def excess(epsilon: float) -> float:
        lost = norm.cdf(mu / 2 - epsilon / mu)
        kept = np.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return lost - kept - DELTA

    return float(brentq(excess, 0.0, 5000.0))


def claimed(mechanism: Mechanism, work: Work, epsilon: float):
    return claim(mechanism, work, epsilon=epsilon, delta=DELTA, accountant="rdp")


@pytest.mark.parametrize("work", [Work(1.0, 1, 30), Work(1.0, 3, 10)])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_right_claim_holds_and_the_broken_ones_do_not(work, epsilon):
    for mechanism in Mechanism:
        made = claimed(mechanism, work, epsilon)
        assert 0.98 * epsilon < made.epsilon <= epsilon
        assert made.noise_multiplier is not None
        truth = true_epsilon(made.noise_multiplier, work)
        if mechanism is Mechanism.CORRECT:
            assert 0.7 * made.epsilon < truth <= made.epsilon
        else:
            assert truth > 2 * made.epsilon


def test_with_sampled_batches_the_right_claim_holds_too():
    work = Work(0.2, 4, 5)
    made = claimed(Mechanism.CORRECT, work, 1.0)
    assert made.noise_multiplier is not None
    step = PoissonSampledDpEvent(work.sample_rate, GaussianDpEvent(made.noise_multiplier))
    accountant = PLDAccountant()
    accountant.compose(SelfComposedDpEvent(step, work.steps * work.rounds))
    assert 0.7 * made.epsilon < accountant.get_epsilon(DELTA) <= made.epsilon


def test_without_privacy_nothing_is_claimed():
    made = claimed(Mechanism.CORRECT, Work(1.0, 1, 10), math.inf)
    assert (made.epsilon, made.noise_multiplier) == (math.inf, None)
