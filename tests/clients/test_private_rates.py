"""One client's round with rates released: what leaves is the release, and it is in the ledger."""

from __future__ import annotations

import numpy as np
import pytest

from fnl.config import Scalar, parse_config
from fnl.data.federated import open_federation
from fnl.errors import BudgetError
from fnl.privacy.ledger import Ledger, Spend
from fnl.schedule import planned_participations
from fnl.training.spending import noise_of, workload_of
from fnl.weights import weights_hash
from tests.clients.one_round import round_of_a_client

RELEASE: dict[str, Scalar] = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0}


def test_a_round_is_one_entry_of_steps_and_one_of_the_release(small_config):
    outcome = round_of_a_client({**small_config, **RELEASE})
    report = outcome.report
    assert report.rate_noise is not None
    steps, release = outcome.ledger.entries
    assert steps == Spend(report.noise_multiplier, report.sample_rate, report.steps)
    clip_norm = 0.5
    assert release.noise_multiplier == pytest.approx(
        report.rate_noise * report.num_examples / clip_norm
    )
    assert (release.sample_rate, release.steps) == (1.0, 1)
    assert report.epsilon == outcome.ledger.epsilon(1e-5)


def test_what_is_released_is_the_clear_rates_and_noise_of_the_size_it_says(small_config):
    flat = {**small_config, **RELEASE, "privacy.rate-clip-norm": 5.0}  # clips nothing
    errors = []
    for server_round in range(1, 9):
        report = round_of_a_client(flat, server_round=server_round).report
        assert report.rate_noise is not None
        clear = report.as_shadow()
        errors += list(np.array(report.before.layers) - clear.before.layers)
        errors += list(np.array(report.before.classes) - clear.before.classes)
        assert not report.in_range().firing_rate_before < 0
    scaled = np.array(errors) / report.rate_noise
    # 8 rounds x (2 layers + 10 classes): the central 99.9 % of a chi-square of 96 degrees
    assert 59 < (scaled**2).sum() < 145


def test_weights_are_the_same_bits_with_another_noise_only_if_the_budget_is(small_config):
    # with sigma fixed, releasing rates changes nothing about training
    fixed = {**small_config, "privacy.noise-multiplier": 1.0}
    clear, released = round_of_a_client(fixed), round_of_a_client({**fixed, **RELEASE})
    assert weights_hash(clear.weights) == weights_hash(released.weights)
    assert released.report.after.classes != clear.report.after.classes
    assert released.ledger.epsilon(1e-5) > clear.ledger.epsilon(1e-5)


def test_rates_clipped_to_nothing_are_noise_alone(small_config):
    tiny = {**small_config, **RELEASE, "privacy.rate-clip-norm": 1e-6}
    report = round_of_a_client(tiny).report
    assert abs(report.firing_rate_after) < 1e-5
    assert report.as_shadow().firing_rate_after > 1e-3


def test_a_client_refuses_the_round_that_its_budget_does_not_allow(small_config):
    flat = {**small_config, **RELEASE}
    config = parse_config(flat)
    rounds = int(planned_participations(0, 2, 4, 3)[2])
    ledger = Ledger()
    for _ in range(rounds):
        ledger = round_of_a_client(flat, ledger=ledger).ledger
        assert ledger.epsilon(1e-5) <= config.privacy.epsilon
    with pytest.raises(BudgetError, match=r"privacy\.epsilon = 8 is spent: 7\.9") as refusal:
        round_of_a_client(flat, ledger=ledger)
    assert "\n" not in str(refusal.value)
    # with sigma given, epsilon is a report and no budget
    round_of_a_client({**flat, "privacy.noise-multiplier": 1.0}, ledger=ledger)


def test_a_client_that_the_schedule_never_asks_refuses(small_config):
    assert planned_participations(0, 2, 4, 3)[1] == 0
    with pytest.raises(BudgetError, match="asks this client in no round"):
        round_of_a_client({**small_config, **RELEASE}, partition=1)


def test_uniform_noise_is_the_same_for_all_and_costs_differ(small_config):
    flat = {
        **small_config, **RELEASE, "privacy.noise-allocation": "uniform-noise",
        "data.partitioner": "iid", "data.quantity-alpha": 1.0, "privacy.delta": 0.0,
    }  # fmt: skip
    config = parse_config(flat)
    partitioning = open_federation(config).partitioning
    works = [workload_of(config, k, len(partitioning.rows(k))) for k in (0, 2, 3)]
    noises = {noise_of(config, work) for work in works}
    assert len(noises) == 1
    noise = noises.pop()
    costs = [
        Ledger().with_entries(noise.round_of(work) * work.rounds).epsilon(work.delta)
        for work in works
    ]
    assert 7.7 <= max(costs) <= 8.0
    assert min(costs) < 7
    own = {
        noise_of(parse_config({**flat, "privacy.noise-allocation": "uniform-epsilon"}), work)
        for work in works
    }
    assert len(own) == 3
    assert noise.gradients >= max(one.gradients for one in own) * 0.98
