"""Ledgers against Opacus' accountants step by step, and against Google's dp_accounting."""

import itertools
import math
import warnings

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.utils import get_noise_multiplier

from fnl.errors import ConfigError
from fnl.privacy.ledger import RDP_ORDERS, Ledger, Spend, calibrate

DELTA = 1e-3

HISTORIES = {
    "one step": [(1.0, 0.1, 1)],
    "one client": [(1.2, 0.3, 12)],
    "noise changes": [(1.2, 0.3, 6), (0.8, 0.3, 3), (2.0, 0.3, 9)],
    "rates change": [(1.1, 0.05, 20), (1.1, 0.5, 4)],
    "back and forth": [(1.1, 0.2, 5), (0.9, 0.4, 2), (1.1, 0.2, 5)],
    "all clips every step": [(3.0, 1.0, 10), (3.0, 0.5, 2)],
    "much noise": [(40.0, 0.1, 10)],
}
histories = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())


def ledger_of(history: list[tuple[float, float, int]]) -> Ledger:
    ledger = Ledger()
    for noise_multiplier, sample_rate, steps in history:
        ledger = ledger.spend(noise_multiplier, sample_rate, steps)
    return ledger


def pld_epsilon(history: list[tuple[float, float, int]]) -> float:
    """ε of the same steps by Google's privacy loss distributions, nearly exact."""
    accountant = PLDAccountant()
    for noise_multiplier, sample_rate, steps in history:
        step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(noise_multiplier)
        if sample_rate < 1:
            step = dp_accounting.PoissonSampledDpEvent(sample_rate, step)
        accountant.compose(step, steps)
    return accountant.get_epsilon(DELTA)


@histories
def test_rdp_is_opacus_accountant_fed_step_by_step(history):
    accountant = RDPAccountant()
    for noise_multiplier, sample_rate, steps in history:
        for _ in range(steps):
            accountant.step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)
    expected, _ = accountant.get_privacy_spent(delta=DELTA, alphas=RDP_ORDERS)
    assert ledger_of(history).epsilon(DELTA) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["noise changes", "rates change"])
def test_prv_is_opacus_accountant_fed_step_by_step(name):
    accountant = PRVAccountant()
    for noise_multiplier, sample_rate, steps in HISTORIES[name]:
        for _ in range(steps):
            accountant.step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)
    expected = accountant.get_epsilon(delta=DELTA)
    # theirs is an estimate, good to 0.01, and 0.01
    assert expected - 0.02 <= ledger_of(HISTORIES[name]).epsilon(DELTA, "prv") <= expected + 1e-3


@histories
def test_epsilon_bounds_googles_from_above_and_closely(history):
    exact, ledger = pld_epsilon(history), ledger_of(history)
    # both are upper bounds, and above the truth by less than 1e-3
    assert ledger.epsilon(DELTA, "prv") == pytest.approx(exact, abs=1e-3)
    # Rényi DP is loose for few steps
    factor = 1.35 if ledger.steps > 10 else 2
    assert exact <= ledger.epsilon(DELTA) <= factor * exact


steps_of_any_kind = st.tuples(
    st.floats(0.3, 60), st.one_of(st.just(1.0), st.floats(0.005, 0.99)), st.integers(1, 500)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps_of_any_kind, min_size=1, max_size=3), st.floats(1e-7, 0.05))
def test_the_order_found_by_bisection_is_the_best_of_all(history, delta):
    ledger, accountant = ledger_of(history), RDPAccountant()
    accountant.history = [(sigma, rate, steps) for sigma, rate, steps in history]
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.filterwarnings("ignore", message="Optimal order is the")
        expected, _ = accountant.get_privacy_spent(delta=delta, alphas=RDP_ORDERS)
    assert ledger.epsilon(delta) == pytest.approx(max(expected, 0.0), rel=1e-9, abs=1e-12)


def test_opacus_orders_are_all_there():
    assert set(RDPAccountant.DEFAULT_ALPHAS) <= set(RDP_ORDERS)


@histories
def test_epsilon_grows_with_every_entry(history):
    spent = [ledger_of(history[:n]).epsilon(DELTA) for n in range(len(history) + 1)]
    assert spent[0] == 0.0
    assert all(before < after for before, after in itertools.pairwise(spent))


def test_equal_neighbours_are_merged_and_only_they():
    ledger = ledger_of([(1.0, 0.1, 2), (1.0, 0.1, 3), (1.0, 0.2, 1), (2.0, 0.2, 1), (1.0, 0.1, 4)])
    assert ledger.entries == (
        Spend(1.0, 0.1, 5), Spend(1.0, 0.2, 1), Spend(2.0, 0.2, 1), Spend(1.0, 0.1, 4),
    )  # fmt: skip
    assert ledger.steps == 11


def test_spending_leaves_the_ledger_before_as_it_was():
    first = ledger_of([(1.0, 0.1, 2)])
    first.spend(1.0, 0.1, 3)
    assert first == Ledger((Spend(1.0, 0.1, 2),))


def test_order_of_spending_does_not_matter():
    history = HISTORIES["noise changes"]
    forwards, backwards = ledger_of(history), ledger_of(history[::-1])
    assert forwards.epsilon(DELTA) == pytest.approx(backwards.epsilon(DELTA), rel=1e-12)


def test_releases_between_rounds_compose_with_the_steps_as_in_one_opacus_accountant():
    ledger, accountants = Ledger(), (RDPAccountant(), PRVAccountant())
    for _ in range(5):  # a release looks at every clip: sampling rate 1
        for noise_multiplier, sample_rate, steps in ((1.1, 0.2, 4), (9.0, 1.0, 1)):
            ledger = ledger.spend(noise_multiplier, sample_rate, steps)
            for accountant in accountants:
                for _ in range(steps):
                    accountant.step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)
    rdp, _ = accountants[0].get_privacy_spent(delta=DELTA, alphas=RDP_ORDERS)
    assert ledger.epsilon(DELTA) == pytest.approx(rdp, rel=1e-9)
    with np.errstate(divide="ignore"):  # Opacus takes log(1 - q) at q = 1
        prv = accountants[1].get_epsilon(delta=DELTA)
    # Opacus composes ten different entries on another grid than two of the same
    assert ledger.epsilon(DELTA, "prv") == pytest.approx(prv, abs=0.02)
    exact = pld_epsilon([(1.1, 0.2, 20), (9.0, 1.0, 5)])
    assert ledger.epsilon(DELTA, "prv") == pytest.approx(exact, abs=1e-3)
    steps_alone = Ledger().spend(1.1, 0.2, 20)
    assert ledger.epsilon(DELTA) > steps_alone.epsilon(DELTA) + 0.05


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_asking_what_would_exceed_spends_nothing(accountant):
    ledger, ahead = ledger_of([(1.2, 0.3, 12)]), (Spend(1.2, 0.3, 4), Spend(9.0, 1.0, 1))
    before = ledger.epsilon(DELTA, accountant)
    after = ledger.with_entries(ahead).epsilon(DELTA, accountant)
    assert before < after
    for budget, exceeded in ((after, False), (0.999 * after, True), (before, True)):
        asked = ledger.would_exceed(budget, ahead, delta=DELTA, accountant=accountant)
        assert asked == exceeded
    assert not ledger.would_exceed(before, (), delta=DELTA, accountant=accountant)
    assert ledger == ledger_of([(1.2, 0.3, 12)])


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_never_negative(accountant):
    # the bound from Rényi DP at these values is -0.001
    assert 0 <= ledger_of([(1000.0, 0.01, 1)]).epsilon(DELTA, accountant) < 0.01


def test_smaller_delta_costs_more():
    ledger = ledger_of(HISTORIES["one client"])
    assert ledger.epsilon(1e-2) < ledger.epsilon(1e-3) < ledger.epsilon(1e-5)


@pytest.mark.parametrize(
    "spend",
    [
        (0.0, 0.1, 1), (-1.0, 0.1, 1), (math.nan, 0.1, 1), (math.inf, 0.1, 1),
        (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, -0.1, 1), (1.0, math.nan, 1),
        (1.0, 0.1, 0), (1.0, 0.1, -1),
    ],
)  # fmt: skip
def test_steps_outside_the_mechanism_are_refused(spend):
    with pytest.raises(ValueError, match="a ledger takes"):
        Ledger().spend(*spend)


@pytest.mark.parametrize(
    ("epsilon", "sample_rate", "steps"),
    [(0.1, 0.1, 100), (1.0, 0.4, 30), (8.0, 0.25, 40), (50.0, 0.4, 30), (8.0, 1.0, 1)],
)
def test_calibrated_noise_costs_the_budget_and_never_more(epsilon, sample_rate, steps):
    sigma = calibrate(epsilon=epsilon, delta=DELTA, sample_rate=sample_rate, steps=steps)
    spent = Ledger().spend(sigma, sample_rate, steps).epsilon(DELTA)
    assert 0.99 * epsilon <= spent <= epsilon


def test_calibrated_noise_under_prv_costs_the_budget_with_less_noise():
    budget = {"epsilon": 8.0, "delta": DELTA, "sample_rate": 0.4, "steps": 30}
    sigma = calibrate(**budget, accountant="prv")
    assert 0.99 * 8 <= Ledger().spend(sigma, 0.4, 30).epsilon(DELTA, "prv") <= 8
    assert sigma < calibrate(**budget)


def test_the_budget_of_a_run_is_kept_when_it_is_spent_round_by_round():
    sigma = calibrate(epsilon=3.0, delta=DELTA, sample_rate=0.25, steps=7 * 4)
    ledger = Ledger()
    for _ in range(7):
        ledger = ledger.spend(sigma, 0.25, 4)
        assert ledger.epsilon(DELTA) <= 3.0
    assert ledger.epsilon(DELTA) >= 0.99 * 3.0


def test_a_budget_that_cannot_be_kept_is_one_line_naming_it():
    with pytest.raises(ConfigError, match=r"privacy\.epsilon = 1e-07 cannot be kept") as caught:
        calibrate(epsilon=1e-7, delta=1e-9, sample_rate=1.0, steps=1000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("epsilon", "sample_rate", "steps"), [(8.0, 0.16, 247), (1.0, 0.04, 40), (0.3, 0.9, 3)]
)
def test_calibration_is_opacus_search(epsilon, sample_rate, steps):
    budget = {"sample_rate": sample_rate, "steps": steps}
    theirs = get_noise_multiplier(
        target_epsilon=epsilon,
        target_delta=DELTA,
        epsilon_tolerance=0.01 * epsilon,
        alphas=RDP_ORDERS,
        **budget,
    )
    assert calibrate(epsilon=epsilon, delta=DELTA, **budget) == theirs
