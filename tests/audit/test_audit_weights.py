"""Attacks on weights: under the claim when it is true, above it when it is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from fnl.audit.claims import Mechanism
from fnl.audit.membership import auc
from fnl.audit.result import Attack, AuditResult
from fnl.audit.weights import attack_weights
from fnl.config import parse_config
from fnl.errors import BudgetError
from fnl.training import local
from fnl.training.batched import noise
from fnl.training.client import LocalTraining
from fnl.training.mechanism import GaussianMechanism
from tests.runs import dotted


def attacked(audited, mechanism: Mechanism, epsilon: float, canaries: int = 150, **changes: Any):
    config, federation = audited
    config = parse_config({**config.flat(), **dotted(changes)})
    return attack_weights(
        config, federation, mechanism=mechanism, epsilon=epsilon, canaries=canaries
    )


def white_box(attacks: tuple[Attack, Attack]) -> AuditResult:
    return attacks[0].result(0.95)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_a_true_claim_stands(audited, epsilon):
    attack = attacked(audited, Mechanism.CORRECT, epsilon)
    result = white_box(attack)
    assert 0.98 * epsilon < result.claimed_epsilon <= epsilon
    assert not result.refuted
    # and the attack is no straw man: near the best test of five steps of noise σ against C
    sigma = attack[0].claim.booked
    best = norm.cdf(5**0.5 / sigma / 2**0.5)
    assert 0.5 + 0.6 * (best - 0.5) - 0.03 < result.auc < best + 0.05


def test_noise_ten_times_too_small_is_caught(audited):
    result = white_box(attacked(audited, Mechanism.NOISE_TENTH, 1.0))
    assert result.lower_bound > 1.5 > result.claimed_epsilon
    assert result.noise_ratio == pytest.approx(0.1, rel=0.05)


def test_a_ledger_that_forgets_every_round_is_caught(audited):
    result = white_box(attacked(audited, Mechanism.LEDGER_RESET, 2.0, run__rounds=40))
    assert result.claimed_epsilon <= 2.0 < result.lower_bound
    assert result.noise_ratio > 1  # all that is booked is there


def too_small(original, factor: float):
    """Return a stand-in for a client's mechanism with `factor` times the noise it was given."""

    def mechanism(self, noise):
        right = original(self, noise)
        return replace(right, noise_multiplier=factor * right.noise_multiplier)

    return mechanism


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("clipping", ["flat", "per-layer", "automatic"])
def test_noise_that_a_client_makes_smaller_than_it_books_is_caught(
    audited, monkeypatch, factor, clipping
):
    # where clients themselves hand σ to DP-SGD: there is no copy of it to pass in its place
    broken = too_small(LocalTraining.mechanism, factor)
    monkeypatch.setattr(LocalTraining, "mechanism", broken)
    result = white_box(attacked(audited, Mechanism.CORRECT, 1.0, 20, privacy__clipping=clipping))
    assert result.refuted
    assert result.noise_ratio == pytest.approx(factor, rel=0.04)


@pytest.mark.parametrize("factor", [0.5, 0.95])
def test_noise_that_a_round_makes_smaller_after_it_was_booked_is_caught(
    audited, monkeypatch, factor
):
    """Reproduction: the audit set and booked noise by itself, so that this passed it."""
    right = local._trainings
    monkeypatch.setattr(
        local,
        "_trainings",
        lambda client, weights, noise: right(client, weights, noise.scaled(factor)),
    )
    result = white_box(attacked(audited, Mechanism.CORRECT, 1.0, 20))
    assert result.refuted
    assert result.noise_ratio == pytest.approx(factor, rel=0.04)


def test_noise_that_a_round_sets_too_small_is_refused_by_its_ledger(audited, monkeypatch):
    right = local.noise_of
    monkeypatch.setattr(local, "noise_of", lambda *of: right(*of).scaled(0.8))
    with pytest.raises(BudgetError, match="is spent"):
        attacked(audited, Mechanism.CORRECT, 1.0, 20)


def test_noise_that_dp_sgd_makes_smaller_is_caught(audited, monkeypatch):
    right = GaussianMechanism.gradient_noise
    monkeypatch.setattr(GaussianMechanism, "gradient_noise", lambda *of: 0.8 * right(*of))
    assert white_box(attacked(audited, Mechanism.CORRECT, 1.0, 20)).refuted


BATCHED: dict[str, Any] = {"run__batched_clients": "4"}


def test_clients_audited_as_one_batch_are_audited_as_well(audited):
    alone, together = (
        white_box(attacked(audited, Mechanism.CORRECT, 1.0, 150, **changes))
        for changes in ({}, BATCHED)
    )
    assert not together.refuted
    assert together.auc == pytest.approx(alone.auc, abs=0.01)
    assert together.noise_ratio == pytest.approx(alone.noise_ratio, rel=1e-3)
    tenth = white_box(attacked(audited, Mechanism.NOISE_TENTH, 1.0, 150, **BATCHED))
    assert tenth.lower_bound > 1.5 > tenth.claimed_epsilon


@pytest.mark.parametrize("factor", [0.1, 0.8])
def test_noise_that_a_batch_of_clients_makes_smaller_is_caught(audited, monkeypatch, factor):
    """Reproduction: audits trained clients one at a time, whatever a run does."""
    right = noise.fill_normal
    monkeypatch.setattr(
        noise, "fill_normal", lambda parts, std, source: right(parts, factor * std, source)
    )
    result = white_box(attacked(audited, Mechanism.CORRECT, 1.0, 20, **BATCHED))
    assert result.refuted
    assert result.noise_ratio == pytest.approx(factor, rel=0.04)
    # where nobody shares a batch there is no such noise
    assert not white_box(attacked(audited, Mechanism.CORRECT, 1.0, 20)).refuted


def test_where_updates_are_more_than_a_sum_and_noise_nothing_is_measured(audited):
    for changes in ({"training__optimizer": "adam"}, {"training__local_epochs": 2.0}):
        assert np.isnan(attacked(audited, Mechanism.CORRECT, 1.0, 20, **changes)[0].noise_ratio)


def test_without_privacy_every_coin_is_read(audited):
    attack = attacked(audited, Mechanism.CORRECT, np.inf)
    assert ((attack[0].scores > 0) == attack[0].included).all()
    # as much as that many canaries can prove
    assert white_box(attack).lower_bound > 4


def test_other_optimizers_and_sampled_batches_do_not_hide_the_coins(audited):
    for changes in (
        {"training__optimizer": "adam"},
        {"training__batch_size": 60, "training__local_epochs": 2.0},
        {"training__momentum": 0.9, "training__local_epochs": 2.0},
        {"privacy__clipping": "per-layer", "privacy__clipping_method": "ghost"},
        {"privacy__clipping": "adaptive", "training__label_smoothing": 0.1},
        {"privacy__clipping": "automatic", "training__weight_decay": 0.01},
    ):
        attack = attacked(audited, Mechanism.NOISE_TENTH, 8.0, 100, **changes)
        assert white_box(attack).auc > 0.9, changes


def test_an_attack_on_losses_alone_sees_what_was_learned(audited):
    _, attack = attacked(
        audited, Mechanism.CORRECT, np.inf, 40, training__learning_rate=0.3, run__rounds=20
    )
    inside, outside = attack.scores[attack.included], attack.scores[~attack.included]
    assert auc(inside, outside) > 0.65


def test_the_same_seed_gives_the_same_audit_and_another_seed_other_coins(audited):
    first, again = (attacked(audited, Mechanism.CORRECT, 8.0, 20)[0] for _ in range(2))
    assert (first.scores == again.scores).all()
    config, federation = audited
    moved, _ = attack_weights(
        parse_config({**config.flat(), "run.seed": 1}),
        federation,
        mechanism=Mechanism.CORRECT,
        epsilon=8.0,
        canaries=20,
    )
    assert (moved.included != first.included).any()
