"""The guarantee as a curve, against Google's accountant and the closed form of Gaussian DP."""

import math

import polars as pl
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.optimize import brentq
from scipy.stats import norm

from fnl.privacy.curve import DELTAS, curve_of, largest_curve
from fnl.privacy.ledger import Ledger


def test_it_is_that_of_privacy_loss_distributions():
    ledger = Ledger().spend(1.2, 0.2, 100).spend(8.0, 1.0, 10)
    steps = pld.from_gaussian_mechanism(1.2, sampling_prob=0.2).self_compose(100)
    loss = steps.compose(pld.from_gaussian_mechanism(8.0).self_compose(10))
    curve = curve_of(ledger, "prv")
    assert curve.mu is None
    for delta in DELTAS:
        assert curve.epsilons[delta] == pytest.approx(loss.get_epsilon_for_delta(delta), abs=0.02)


def test_gaussian_dp_where_every_clip_is_in_every_step():
    ledger = Ledger().spend(4.0, 1.0, 6).spend(10.0, 1.0, 3)
    curve = curve_of(ledger, "prv")
    assert curve.mu == pytest.approx(math.sqrt(6 / 16 + 3 / 100))

    def delta_of(epsilon: float) -> float:  # Balle & Wang 2018, theorem 8
        mu = curve.mu
        above, below = norm.cdf(mu / 2 - epsilon / mu), norm.cdf(-mu / 2 - epsilon / mu)
        return above - math.exp(epsilon) * below

    for delta in DELTAS:
        exact = brentq(lambda epsilon, delta=delta: delta_of(epsilon) - delta, 0, 50)
        assert curve.epsilons[delta] == pytest.approx(exact, abs=0.02)
        assert curve.epsilons[delta] >= exact - 1e-3


def table(**changes):
    rows = {
        "partition": [0, 1, 0], "noise_multiplier": [2.0, 3.0, 2.0], "sample_rate": [0.5] * 3,
        "steps": [4] * 3, "rate_noise": [0.1, 0.1, 0.1], "num_examples": [20] * 3,
        "delta": [1e-3] * 3, "epsilon": [1.0, 0.5, 1.5],
    }  # fmt: skip
    return pl.DataFrame(rows | changes)


def test_the_table_of_clients_tells_the_ledger_of_who_has_spent_most():
    ledger = Ledger().spend(2.0, 0.5, 8).spend(4.0, 1.0, 2)
    epsilon = ledger.epsilon(1e-3, "prv")
    options = {"rate_clip_norm": 0.5, "accountant": "prv"}
    told = largest_curve(table(epsilon=[1.0, 0.5, epsilon]), **options)
    assert told is not None
    assert told.epsilons[1e-3] == pytest.approx(epsilon, rel=1e-6)


def test_a_ledger_that_holds_more_than_the_table_has_no_curve():
    options = {"rate_clip_norm": 0.5, "accountant": "prv"}
    assert largest_curve(table(epsilon=[1.0, 0.5, 99.0]), **options) is None
    assert largest_curve(table(epsilon=[None] * 3), **options) is None
