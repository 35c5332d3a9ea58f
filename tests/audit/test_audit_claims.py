"""Claims: what the ledger says of the right mechanism, and by how much the broken ones lie."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import norm

import fnl.privacy.budget
from fnl.audit.claims import Claim, Mechanism, claim
from fnl.audit.plan import check_auditable
from fnl.config import parse_config
from fnl.errors import BudgetError, ConfigError
from fnl.privacy.budget import Workload

DELTA = 1e-5
CLIPS = 100


def true_epsilon(noise_multiplier: float, work: Workload) -> float:
    """ε of everything released at sampling rate 1: k steps are one of σ/√k.

    Balle & Wang 2018 (arXiv 1805.06530), theorem 8: the analytic Gaussian mechanism.
    """
    mu = (work.steps * work.rounds) ** 0.5 / noise_multiplier

    def excess(epsilon: float) -> float:
        lost = norm.cdf(mu / 2 - epsilon / mu)
        kept = np.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return lost - kept - DELTA

    return float(brentq(excess, 0.0, 5000.0))


def work_of(sample_rate: float, steps: int, rounds: int) -> Workload:
    return Workload(sample_rate, steps, rounds, DELTA)


def claimed(mechanism: Mechanism, work: Workload, epsilon: float, *, rates: bool = False) -> Claim:
    config = parse_config(
        {
            "training.batch-size": round(work.sample_rate * CLIPS),
            "training.local-epochs": work.steps * work.sample_rate,
            "run.rounds": work.rounds,
            "privacy.delta": DELTA,
        }
    )
    return claim(mechanism, config, epsilon=epsilon, partition=0, clips=CLIPS, rates=rates)


@pytest.mark.parametrize("work", [work_of(1.0, 1, 30), work_of(1.0, 3, 10)])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_right_claim_holds_and_the_broken_ones_do_not(work, epsilon):
    for mechanism in Mechanism:
        made = claimed(mechanism, work, epsilon)
        assert 0.98 * epsilon < made.epsilon <= epsilon
        assert made.noise is not None
        truth = true_epsilon(made.noise.gradients, work)
        if mechanism is Mechanism.CORRECT:
            assert 0.7 * made.epsilon < truth <= made.epsilon
        else:
            assert truth > 2 * made.epsilon


def test_with_sampled_batches_the_right_claim_holds_too():
    work = work_of(0.2, 4, 5)
    made = claimed(Mechanism.CORRECT, work, 1.0)
    assert made.noise is not None
    step = PoissonSampledDpEvent(work.sample_rate, GaussianDpEvent(made.noise.gradients))
    accountant = PLDAccountant()
    accountant.compose(SelfComposedDpEvent(step, work.steps * work.rounds))
    assert 0.7 * made.epsilon < accountant.get_epsilon(DELTA) <= made.epsilon


def test_without_privacy_nothing_is_claimed():
    made = claimed(Mechanism.CORRECT, work_of(1.0, 1, 10), math.inf)
    assert (made.epsilon, made.noise) == (math.inf, None)


def test_of_rates_the_claim_is_for_their_releases_alone():
    work = work_of(0.2, 4, 30)
    made = claimed(Mechanism.CORRECT, work, 1.0, rates=True)
    assert made.noise is not None
    assert made.noise.rates == made.booked
    assert 0.98 < made.epsilon <= 1.0
    assert 0.7 * made.epsilon < true_epsilon(made.noise.rates, work_of(1.0, 1, 30)) <= made.epsilon
    tenth = claimed(Mechanism.NOISE_TENTH, work, 1.0, rates=True)
    assert tenth.noise is not None
    assert tenth.noise.rates == pytest.approx(made.noise.rates / 10)
    assert tenth.booked == made.booked


def test_a_budget_that_sets_too_little_noise_is_refused_by_the_ledger(monkeypatch):
    right = fnl.privacy.budget.calibrate
    monkeypatch.setattr(fnl.privacy.budget, "calibrate", lambda **how: 0.8 * right(**how))
    with pytest.raises(BudgetError, match=r"privacy\.epsilon = 1 is spent"):
        claimed(Mechanism.CORRECT, work_of(1.0, 1, 30), 1.0)


def test_what_one_client_sends_under_shared_noise_is_nothing_to_attack(small_config):
    from tests.audit.test_audit_sensitivity import SHARED

    with pytest.raises(ConfigError, match=r"'distributed': .* use --target sensitivity"):
        check_auditable(parse_config({**small_config, **SHARED}))
