"""PRV accounting against closed forms, Google's dp_accounting and Opacus' PRV."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.special import ndtr

from fnl.privacy import prv
from fnl.privacy.budget import Budget, Workload
from fnl.privacy.ledger import Ledger, calibrate
from fnl.privacy.prv import EPS_ERROR, History, prv_epsilon

pytestmark = pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning:opacus", "ignore:Optimal order is the:UserWarning"
)

HISTORIES: dict[str, History] = {
    "one step": ((1.0, 0.1, 1),),
    "a run with releases": ((1.4, 0.16, 240), (5.0, 1.0, 20)),
    "two noises and a release": ((1.2, 0.3, 6), (0.8, 0.3, 3), (9.0, 1.0, 2)),
    "little noise": ((0.5, 0.1, 60), (20.0, 1.0, 3)),
    "very little noise": ((0.3, 0.3, 5),),
    "rare clips, little noise": ((0.4, 0.001, 300),),
    "all clips every step": ((3.0, 1.0, 10),),
    "many steps": ((8.0, 0.01, 5000),),
    "much noise": ((40.0, 0.1, 10),),
}
histories = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
deltas = pytest.mark.parametrize("delta", [1e-3, 1e-6])


def pld_epsilon(history: History, delta: float) -> tuple[float, float]:
    """Return Google's upper bound, and by how much it is above the truth at most, all but.

    Its mesh adds width²/4 of variance a step, as ours does, at another width.
    """
    interval = 1e-4 if sum(steps for _, _, steps in history) > 1000 else 5e-4
    accountant = PLDAccountant(value_discretization_interval=interval)
    for sigma, rate, steps in history:
        step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1:
            step = dp_accounting.PoissonSampledDpEvent(rate, step)
        accountant.compose(step, steps)
    return accountant.get_epsilon(delta), 3e-4


@deltas
@histories
def test_it_is_above_google_s_by_less_than_its_error(history, delta):
    theirs, slack = pld_epsilon(history, delta)
    assert theirs - slack <= prv_epsilon(history, delta) <= theirs + EPS_ERROR


@histories
def test_it_is_within_the_error_of_opacus_estimate(history):
    # whose value is an upper bound: its estimate, give or take 0.01, plus 0.01
    accountant = PRVAccountant()
    accountant.history = list(history)
    theirs = accountant.get_epsilon(delta=1e-3)
    assert theirs - 0.02 <= prv_epsilon(history, 1e-3) <= theirs + EPS_ERROR


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return ε of Gaussian releases, of 1/σ² = μ² together (Balle & Wang 2018, theorem 5)."""

    def excess(epsilon: float) -> float:
        high, low = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return float(ndtr(high) - math.exp(epsilon) * ndtr(low)) - delta

    return 0.0 if excess(0) <= 0 else float(brentq(excess, 0, mu**2 / 2 + 9 * mu, xtol=1e-12))


@settings(deadline=None)
@given(st.floats(0.3, 200), st.integers(1, 500), st.floats(1e-8, 0.1))
def test_releases_of_all_clips_cost_what_the_closed_form_says(sigma, steps, delta):
    mu = math.sqrt(steps) / sigma
    if mu < 15:
        truth = gaussian_epsilon(mu, delta)
        above = EPS_ERROR + 1e-7 * truth  # rounding in double precision, of an ε of 120, say
        assert truth - 1e-9 <= prv_epsilon(((sigma, 1.0, steps),), delta) <= truth + above


any_steps = st.tuples(
    st.floats(0.5, 50), st.one_of(st.just(1.0), st.floats(0.01, 0.9)), st.integers(1, 60)
)


@settings(max_examples=10, deadline=None)
@given(st.lists(any_steps, min_size=1, max_size=3), st.floats(1e-6, 1e-2))
def test_any_history_is_above_google_s_by_less_than_the_error(mechanisms, delta):
    history = tuple({(sigma, rate): (sigma, rate, n) for sigma, rate, n in mechanisms}.values())
    theirs, slack = pld_epsilon(history, delta)
    if theirs < 100:
        assert theirs - slack <= prv_epsilon(history, delta) <= theirs + EPS_ERROR


@histories
def test_on_any_mesh_it_is_above_a_finer_one_s(history, monkeypatch):
    fine_error = EPS_ERROR / 16
    coarse = [prv_epsilon(history, 1e-3)]
    monkeypatch.setattr(prv, "EPS_ERROR", 4 * EPS_ERROR)
    coarse.append(prv_epsilon(history, 1e-3))
    monkeypatch.setattr(prv, "EPS_ERROR", fine_error)
    fine = prv_epsilon(history, 1e-3)
    for epsilon, error in zip(coarse, (EPS_ERROR, 4 * EPS_ERROR), strict=True):
        assert fine - fine_error <= epsilon <= fine + error


def test_a_clip_added_and_a_clip_removed_are_both_bounded():
    mesh = prv._mesh_of(((1.0, 0.1, 1),), 1e-3)
    assert mesh is not None
    loss = prv._loss_of(1.0, 0.1, mesh)
    removed, added = (
        prv._epsilon_at(1e-3, prv._composed([(spectrum, 1)], mesh), mesh)
        for spectrum in loss.spectra
    )
    # one step: sup over sets of P(S) - e^ε Q(S) is at a threshold of the output
    x = np.linspace(-12, 12, 2_000_001)
    mixture, plain = 0.9 * ndtr(x) + 0.1 * ndtr(x - 1), ndtr(x)
    for epsilon, (p, q) in ((removed, (1 - mixture, 1 - plain)), (added, (plain, mixture))):
        assert (p - math.exp(epsilon) * q).max() <= 1e-3 + 1e-12
        assert (p - math.exp(epsilon - 0.01) * q).max() >= 1e-3
    assert added < removed


@histories
def test_every_further_quarter_of_the_steps_costs_more(history):
    *others, (sigma, rate, steps) = history
    counts = range(1, steps * 3, max(1, steps // 4))
    spent = [prv_epsilon((*others, (sigma, rate, count)), 1e-3) for count in counts]
    assert all(np.diff(spent) > 0)


@histories
def test_the_order_of_mechanisms_changes_no_bit(history):
    assert prv_epsilon(history[::-1], 1e-3) == prv_epsilon(history, 1e-3)


@pytest.mark.parametrize(
    "beyond", [((1e-3, 1.0, 100),), ((0.01, 0.3, 50),), ((5.0, 0.5, 10**12),)], ids=str
)
def test_what_no_mesh_holds_has_no_bound(beyond):
    assert prv_epsilon(beyond, 1e-3) == math.inf
    assert Ledger().spend(*beyond[0]).epsilon(1e-3, "prv") == math.inf
    assert prv_epsilon(HISTORIES["one step"], 1e-13) == math.inf  # rounding would say what δ is


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(8.0, 0.16, 240), (1.0, 0.04, 40), (0.3, 0.9, 3), (4.0, 1.0, 9)]
)
def test_calibration_finds_less_noise_than_renyi_dp_for_the_same_budget(epsilon, rate, steps):
    budget = {"epsilon": epsilon, "delta": 1e-3, "sample_rate": rate, "steps": steps}
    sigma = calibrate(**budget, accountant="prv")
    cost, _ = pld_epsilon(((sigma, rate, steps),), 1e-3)
    assert 0.98 * epsilon <= cost <= epsilon
    assert sigma < calibrate(**budget, accountant="rdp")


def test_a_run_within_its_budget_is_analysed_on_few_meshes(monkeypatch):
    work = Workload(sample_rate=0.23, steps=9, rounds=40, delta=1e-3)
    noise = Budget(6.0, 1.5, "prv").noise_of(work)
    prv._loss_of.cache_clear()
    ledger, before = Ledger(), 0.0
    for _ in range(work.rounds):
        ahead = noise.round_of(work)
        assert not ledger.would_exceed(6.0, ahead, delta=work.delta, accountant="prv")
        ledger = ledger.with_entries(ahead)
        spent = ledger.epsilon(work.delta, "prv")
        assert spent > before
        before = spent
    assert prv._loss_of.cache_info().misses <= 2 * 8  # two mechanisms
    assert 0.98 * 6 <= before <= 6
    assert ledger.would_exceed(6.0, noise.round_of(work), delta=work.delta, accountant="prv")


def test_the_last_of_very_many_rounds_is_within_the_budget():
    # a round costs less than the error: a part of the run may seem to cost more than all of it
    rounds = 3000
    sigma = calibrate(epsilon=1.0, delta=1e-3, sample_rate=0.05, steps=rounds, accountant="prv")
    for part in (*range(rounds - 40, rounds + 1), *range(10, rounds, 97)):
        assert Ledger().spend(sigma, 0.05, part).epsilon(1e-3, "prv") <= 1.0


def test_a_plan_is_what_the_rounds_add_up_to():
    work = Workload(sample_rate=0.2, steps=5, rounds=4, delta=1e-3)
    noise = Budget(8.0, 2.0).noise_of(work)
    spent = Ledger()
    for _ in range(work.rounds):
        spent = spent.with_entries(noise.round_of(work))
    assert sorted(noise.run_of(work).history) == sorted(spent.history)
    never = Workload(sample_rate=0.2, steps=5, rounds=0, delta=1e-3)
    assert noise.run_of(never) == Ledger()


def test_an_accountant_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no accountant 'gdp'"):
        Ledger().spend(1.0, 0.1, 1).epsilon(1e-3, "gdp")
