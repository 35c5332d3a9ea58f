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


OPTIONS = {"rate_clip_norm": 0.5, "accountant": "prv"}
SPENT = (
    Ledger().spend(2.0, 0.5, 8).spend(4.0, 1.0, 2),
    Ledger().spend(3.0, 0.5, 4).spend(4.0, 1.0, 1),
)
"""What the two clients of `table` have spent."""


def test_the_curve_is_the_largest_of_any_client_at_each_delta():
    # the first is above at δ = 1e-3 and the second below it, though it has spent more there
    wide, narrow = Ledger().spend(0.9, 0.02, 60), Ledger().spend(5.0, 1.0, 3)
    largest = {d: max(one.epsilon(d, "prv") for one in (wide, narrow)) for d in DELTAS}
    first, last = DELTAS[0], DELTAS[-1]
    assert (wide.epsilon(first, "prv") > narrow.epsilon(first, "prv")) != (
        wide.epsilon(last, "prv") > narrow.epsilon(last, "prv")
    )
    rows = {
        "partition": [0, 1], "noise_multiplier": [0.9, 5.0], "sample_rate": [0.02, 1.0],
        "steps": [60, 3], "rate_noise": [None, None], "num_examples": [20, 20],
        "delta": [1e-3, 1e-3], "epsilon": [one.epsilon(1e-3, "prv") for one in (wide, narrow)],
    }  # fmt: skip
    told = largest_curve(pl.DataFrame(rows), **OPTIONS)
    assert told is not None
    assert told.epsilons == pytest.approx(largest)
    assert told.mu is None


def test_the_table_of_clients_tells_their_ledgers():
    epsilons = [one.epsilon(1e-3, "prv") for one in SPENT]
    told = largest_curve(table(epsilon=[0.7, epsilons[1], epsilons[0]]), **OPTIONS)
    assert told is not None
    assert told.epsilons[1e-3] == pytest.approx(max(epsilons), rel=1e-6)


def test_a_ledger_that_holds_more_than_the_table_has_no_curve():
    epsilons = [one.epsilon(1e-3, "prv") for one in SPENT]
    assert largest_curve(table(epsilon=[1.0, epsilons[1], 99.0]), **OPTIONS) is None
    assert largest_curve(table(epsilon=[1.0, 99.0, epsilons[0]]), **OPTIONS) is None
    assert largest_curve(table(epsilon=[None] * 3), **OPTIONS) is None
