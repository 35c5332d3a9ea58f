"""From a budget to noise: kept by every client, all of it used, gradients and rates in one."""

import itertools

import pytest

from fnl.config import Config
from fnl.errors import ConfigError
from fnl.privacy.budget import LARGEST_N_DELTA, Budget, Noise, Workload, delta_of
from fnl.privacy.ledger import Ledger

WORKS = (
    Workload(sample_rate=0.16, steps=12, rounds=18, delta=1e-3),
    Workload(sample_rate=0.4, steps=5, rounds=18, delta=1e-3),
    Workload(sample_rate=1.0, steps=2, rounds=7, delta=1e-2),
)
BUDGETS = (Budget(8.0), Budget(8.0, 2.0), Budget(1.0, 0.5))


def spent(work: Workload, noise: Noise, accountant: str) -> float:
    """ε after every round, booked one by one."""
    ledger = Ledger()
    for _ in range(work.rounds):
        ledger = ledger.with_entries(noise.round_of(work))
    return ledger.epsilon(work.delta, accountant)


@pytest.mark.parametrize(
    ("budget", "work"),
    [*itertools.product(BUDGETS, WORKS), (Budget(4.0, 1.0, "prv"), WORKS[0])],
    ids=str,
)
def test_the_noise_of_a_client_uses_its_budget_up_and_never_more(budget, work):
    noise = budget.noise_of(work)
    assert 0.99 * budget.epsilon <= spent(work, noise, budget.accountant) <= budget.epsilon
    assert (noise.rates is None) == (budget.rate_epsilon == 0)


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_rates_take_their_share_and_gradients_gain_from_composing(work):
    budget = Budget(8.0, 2.0)
    noise = budget.noise_of(work)
    assert noise.rates is not None
    rates_alone = Ledger().spend(noise.rates, 1.0, work.rounds).epsilon(work.delta)
    assert 0.99 * 2 <= rates_alone <= 2
    # more noise than without a release, less than if the two ε were simply added
    assert Budget(8.0).noise_of(work).gradients < noise.gradients
    assert noise.gradients < Budget(6.0).noise_of(work).gradients


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_one_noise_for_all_keeps_every_budget_and_uses_the_tightest_up(budget):
    noise = budget.noise_of_all(WORKS)
    costs = [spent(work, noise, budget.accountant) for work in WORKS]
    assert 0.97 * budget.epsilon <= max(costs) <= budget.epsilon
    assert min(costs) < 0.9 * max(costs)
    assert budget.noise_of_all(WORKS[::-1]) == noise


def test_one_noise_for_all_without_rates_is_that_of_the_client_that_needs_most():
    budget = Budget(8.0)
    noise = budget.noise_of_all((*WORKS, Workload(1.0, 500, 0, 1e-3)))  # never asked: no say
    assert noise.gradients == max(budget.noise_of(work).gradients for work in WORKS)


def test_a_share_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"privacy\.epsilon = 2\.0 cannot be kept"):
        Budget(2.0, 3.0).noise_of(WORKS[0])


def test_releases_that_cannot_be_had_for_their_share_name_its_key():
    with pytest.raises(ConfigError, match=r"^privacy\.rate-epsilon = 1e-07 cannot be kept"):
        Budget(2.0, 1e-7).noise_of(Workload(0.1, 1, 1000, 1e-9))


def test_nobody_asked_is_an_error():
    with pytest.raises(ValueError, match="no client is ever asked"):
        Budget(8.0).noise_of_all([Workload(0.5, 2, 0, 1e-3)])


def test_delta_comes_from_the_clips_where_none_is_given():
    assert delta_of(1e-3, 10) == 1e-3
    for clips in (1, 2, 7, 800, 10**6):
        assert delta_of(0.0, clips) * clips == pytest.approx(0.1)
        assert delta_of(0.0, clips) <= LARGEST_N_DELTA / clips  # to the last bit: no warning
    assert Config().privacy.delta <= delta_of(0.0, 800)  # the default run's clients
