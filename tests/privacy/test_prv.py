"""PRV at a round's price against Opacus' accountant, and against Google's dp_accounting."""

import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants.utils import get_noise_multiplier

from fnl.privacy import prv
from fnl.privacy.budget import Budget, Workload
from fnl.privacy.ledger import Ledger, Spend, calibrate
from fnl.privacy.prv import EPS_ERROR, History, prv_epsilon

pytestmark = pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning", "ignore:Optimal order is the"
)

HISTORIES: dict[str, History] = {
    "one step": ((1.0, 0.1, 1),),
    "a run with releases": ((1.4, 0.16, 240), (5.0, 1.0, 20)),
    "two noises and a release": ((1.2, 0.3, 6), (0.8, 0.3, 3), (9.0, 1.0, 2)),
    "little noise": ((0.5, 0.1, 60), (20.0, 1.0, 3)),
    "no frequency is nothing": ((0.3, 0.3, 5),),
    "all clips every step": ((3.0, 1.0, 10),),
    "many steps": ((8.0, 0.01, 5000),),
    "much noise": ((40.0, 0.1, 10),),
}
histories = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
deltas = pytest.mark.parametrize("delta", [1e-3, 1e-6])


def times(history: History, factor: int) -> History:
    return tuple((sigma, rate, steps * factor) for sigma, rate, steps in history)


def opacus_epsilon(history: History, delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = list(history)
    return accountant.get_epsilon(delta=delta)


def pld_epsilon(history: History, delta: float) -> float:
    accountant = PLDAccountant(value_discretization_interval=5e-4)
    for sigma, rate, steps in history:
        step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1:
            step = dp_accounting.PoissonSampledDpEvent(rate, step)
        accountant.compose(step, steps)
    return accountant.get_epsilon(delta)


@deltas
@histories
def test_it_is_opacus_accountant(history, delta):
    # on a mesh of another length; theirs is as far from the truth as 1e-2
    assert prv_epsilon(history, delta) == pytest.approx(opacus_epsilon(history, delta), abs=1e-4)


@deltas
@histories
def test_on_the_mesh_of_a_longer_plan_it_is_opacus_within_the_error(history, delta):
    theirs = opacus_epsilon(history, delta)
    for planned in (times(history, 7), (*history, (2.0, 0.5, 100)), ((2.0, 0.5, 100),)):
        assert prv_epsilon(history, delta, planned) == pytest.approx(theirs, abs=1e-3)


@histories
def test_it_bounds_google_s_from_above_and_closely(history):
    exact = pld_epsilon(history, 1e-3)
    for planned in ((), times(history, 20)):
        # 1e-3: dp_accounting rounds up; 0.03: twice the error, and that in delta
        assert exact - 1e-3 <= prv_epsilon(history, 1e-3, planned) <= exact + 0.03


any_steps = st.tuples(
    st.floats(0.5, 50), st.one_of(st.just(1.0), st.floats(0.01, 0.9)), st.integers(1, 60)
)


@settings(max_examples=15, deadline=None)
@given(st.lists(any_steps, min_size=1, max_size=3), st.floats(1e-6, 1e-2), st.integers(1, 9))
def test_any_history_on_any_mesh_is_opacus_within_the_error(history, delta, longer):
    history = tuple({(sigma, rate): (sigma, rate, n) for sigma, rate, n in history}.values())
    with np.errstate(divide="ignore"):
        theirs = opacus_epsilon(history, delta)
        ours = prv_epsilon(history, delta, times(history, longer))
    # both are at most one error on either side of the same value, plus one
    assert ours == pytest.approx(theirs, abs=2 * EPS_ERROR)
    assert ours >= theirs - EPS_ERROR / 4


@histories
def test_on_one_plan_every_further_step_costs_more(history):
    planned = times(history, 3)
    spent = [
        prv_epsilon((*history[:-1], (*history[-1][:2], steps)), 1e-3, planned)
        for steps in range(1, history[-1][2] * 3, max(1, history[-1][2] // 4))
    ]
    assert all(before < after for before, after in itertools.pairwise(spent))


@histories
def test_the_order_of_mechanisms_changes_no_bit(history):
    assert prv_epsilon(history[::-1], 1e-3) == prv_epsilon(history, 1e-3)
    assert prv_epsilon(history, 1e-3, history) == prv_epsilon(history, 1e-3)


@pytest.mark.parametrize(
    "beyond", [((1e-3, 1.0, 100),), ((0.01, 0.3, 50),), ((5.0, 0.5, 10**12),)], ids=str
)
def test_what_no_mesh_holds_has_no_bound_and_as_a_plan_no_say(beyond):
    assert prv_epsilon(beyond, 1e-3) == math.inf
    assert Ledger().spend(*beyond[0]).epsilon(1e-3, "prv") == math.inf
    history = HISTORIES["one step"]
    assert prv_epsilon(history, 1e-3, beyond) == prv_epsilon(history, 1e-3)
    assert prv_epsilon(history, 1e-13) == math.inf  # rounding would say what delta is


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(8.0, 0.16, 240), (1.0, 0.04, 40), (0.3, 0.9, 3), (4.0, 1.0, 9)]
)
def test_calibration_by_way_of_a_coarse_mesh_finds_the_noise_of_opacus_search(epsilon, rate, steps):
    theirs = get_noise_multiplier(
        target_epsilon=epsilon,
        target_delta=1e-3,
        epsilon_tolerance=0.01 * epsilon,
        sample_rate=rate,
        steps=steps,
        accountant="prv",
    )
    budget = {"epsilon": epsilon, "delta": 1e-3, "sample_rate": rate, "steps": steps}
    assert calibrate(**budget, accountant="prv") == theirs


def test_noise_that_the_estimate_gets_wrong_is_sought_again(monkeypatch):
    budget = {"epsilon": 2.0, "delta": 1e-3, "sample_rate": 0.21, "steps": 30}
    right = calibrate(**budget, accountant="prv")
    calibrate.cache_clear()
    exact = prv_epsilon

    def half_of_it(history: History, delta: float, planned: History = (), **how: float) -> float:
        return exact(history, delta, planned, **how) * (0.5 if how else 1)

    monkeypatch.setattr("fnl.privacy.ledger.prv_epsilon", half_of_it)
    assert calibrate(**budget, accountant="prv") == right
    calibrate.cache_clear()


def test_a_run_within_its_budget_is_analysed_once_for_all_rounds(monkeypatch):
    work = Workload(sample_rate=0.23, steps=9, rounds=12, delta=1e-3)
    budget = Budget(6.0, 1.5, "prv")
    noise = budget.noise_of(work)
    analysed = []
    exact = prv.discretize

    def counted(loss, domain):
        analysed.append(domain.size)
        return exact(loss, domain)

    monkeypatch.setattr(prv, "discretize", counted)
    ledger, planned, before = Ledger(), noise.run_of(work), 0.0
    for _ in range(work.rounds):
        ahead = noise.round_of(work)
        assert not ledger.would_exceed(
            6.0, ahead, delta=work.delta, accountant="prv", planned=planned
        )
        ledger = ledger.with_entries(ahead)
        spent = ledger.epsilon(work.delta, "prv", planned)
        assert spent > before
        before = spent
    assert not analysed  # calibration left what all rounds need
    assert 0.99 * 6 <= before <= 6
    assert ledger.would_exceed(
        6.0, noise.round_of(work), delta=work.delta, accountant="prv", planned=planned
    )


def test_a_plan_is_what_the_rounds_add_up_to():
    work = Workload(sample_rate=0.2, steps=5, rounds=4, delta=1e-3)
    noise = Budget(8.0, 2.0).noise_of(work)
    spent = Ledger()
    for _ in range(work.rounds):
        spent = spent.with_entries(noise.round_of(work))
    assert sorted(noise.run_of(work).history) == sorted(spent.history)
    never = Workload(sample_rate=0.2, steps=5, rounds=0, delta=1e-3)
    assert noise.run_of(never) == Ledger()


def test_a_plan_changes_nothing_under_rdp():
    ledger, planned = Ledger((Spend(1.1, 0.2, 7),)), Ledger((Spend(1.1, 0.2, 700),))
    assert ledger.epsilon(1e-3, "rdp", planned) == ledger.epsilon(1e-3, "rdp")


def test_an_accountant_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no accountant 'gdp'"):
        Ledger().spend(1.0, 0.1, 1).epsilon(1e-3, "gdp")
