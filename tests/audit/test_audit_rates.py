"""Attacks on rates: in the clear nearly every coin is read, the private release keeps its claim."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from fnl.audit.claims import Mechanism
from fnl.audit.rates import attack_raw_rates, public_models, viewed
from fnl.audit.released_rates import attack_private_rates
from fnl.audit.result import AuditResult
from fnl.config import parse_config
from fnl.data.federated import prepare
from fnl.errors import BudgetError
from fnl.snn.statistics import FiringStatistics
from fnl.training import local
from fnl.training import rates as training_rates
from fnl.training.client import LocalTraining

REPEATS = 150


@pytest.fixture
def rates(audited):
    """The audited federation with rates bounded below every canary's norm, and its models."""
    config, federation = audited
    config = parse_config({**config.flat(), "privacy.rate-clip-norm": 0.1})
    return config, federation, public_models(config, federation)


def test_rates_in_the_clear_give_nearly_every_coin_away(rates):
    attack = attack_raw_rates(*rates, canaries=20, repeats=5)
    assert len(attack.included) == 4 * 5 * 20
    assert 0.4 < attack.included.mean() < 0.6
    assert ((attack.scores > 0.5) == attack.included).mean() > 0.95
    bound = attack.result(0.95)
    assert bound.auc > 0.99
    assert bound.lower_bound > 3


def test_the_proof_grows_with_the_number_of_canaries(rates):
    bounds = []
    for repeats in (1, 4, 16):
        attack = attack_raw_rates(*rates, canaries=10, repeats=repeats)
        bounds.append(
            attack.result(0.95).lower_bound
        )  # fmt: skip
    assert bounds[0] + 0.7 < bounds[1]
    assert bounds[1] + 0.7 < bounds[2]


@pytest.mark.parametrize(
    ("mechanism", "epsilon"),
    [
        (Mechanism.CORRECT, 1.0),
        (Mechanism.CORRECT, 8.0),
        (Mechanism.NOISE_TENTH, 1.0),
        (Mechanism.LEDGER_RESET, 1.0),
    ],
)
def test_the_private_release_keeps_its_claim_and_broken_ones_are_caught(rates, mechanism, epsilon):
    config, federation, models = rates
    if mechanism is Mechanism.LEDGER_RESET:  # what is forgotten adds up over rounds
        config = parse_config({**config.flat(), "run.rounds": 60})
        models = [*models, *([models[-1]] * 55)]
    attack = attack_private_rates(
        config, federation, models, mechanism=mechanism, epsilon=epsilon, repeats=REPEATS
    )
    bound = attack.result(0.95)
    assert bound.canaries == 4 * REPEATS
    assert bound.refuted == (mechanism is not Mechanism.CORRECT)
    # one clip at the bound in k rounds of noise σ: the best test there is, and the audit's
    assert attack.claim.noise is not None
    sigma = attack.claim.noise.rates
    best = norm.cdf((len(models) - 1) ** 0.5 / sigma / 2**0.5)
    assert bound.auc == pytest.approx(best, abs=4 * 0.29 / (4 * REPEATS) ** 0.5)


def released(rates, epsilon: float = 1.0, repeats: int = 20) -> AuditResult:
    attack = attack_private_rates(
        *rates, mechanism=Mechanism.CORRECT, epsilon=epsilon, repeats=repeats
    )
    return attack.result(0.95)


def test_all_noise_that_was_booked_is_measured_in_the_right_release(rates):
    assert 1 < released(rates).noise_ratio < 1.1


@pytest.mark.parametrize("factor", [0.1, 0.8])
@pytest.mark.parametrize("place", ["release", "client"])
def test_noise_that_clients_make_smaller_than_they_book_is_caught(
    rates, monkeypatch, factor, place
):
    """Reproduction: the audit released by itself, and these mistakes passed it."""
    if place == "release":
        right = training_rates.release

        def smaller(*of, noise_multiplier, **how):
            return right(*of, noise_multiplier=factor * noise_multiplier, **how)

        monkeypatch.setattr(training_rates, "release", smaller)
    else:
        own = LocalTraining.reported_rates
        monkeypatch.setattr(
            LocalTraining,
            "reported_rates",
            lambda self, before, after, noise: own(self, before, after, noise.scaled(factor)),
        )
    result = released(rates, repeats=REPEATS)
    assert result.refuted
    assert result.noise_ratio == pytest.approx(factor, rel=0.04)
    if factor == 0.1:
        assert result.lower_bound > 2 > result.claimed_epsilon


def test_noise_that_a_round_sets_too_small_is_refused_by_its_ledger(rates, monkeypatch):
    right = local.noise_of

    def smaller(*of):
        noise = right(*of)
        return replace(noise, rates=0.8 * (noise.rates or 0.0))

    monkeypatch.setattr(local, "noise_of", smaller)
    with pytest.raises(BudgetError, match="is spent"):
        released(rates)


def test_rates_that_a_client_tells_in_the_clear_are_caught(rates, monkeypatch):
    right = LocalTraining.reported_rates
    monkeypatch.setattr(
        LocalTraining,
        "reported_rates",
        lambda self, before, after, noise: right(self, before, after, None),
    )
    assert released(rates, repeats=REPEATS).refuted


def test_what_the_attack_gives_a_client_is_what_it_would_measure(rates):
    config, federation, models = rates
    own = federation.client_clips(0)
    ((_, made, (view, *_)), *_) = viewed(config, federation, models[:1], 3)
    for canary in (None, 0, 2):
        tossed = np.arange(3) == (-1 if canary is None else canary)
        clips = replace(made, included=tossed).joined(*own)
        found = view.measured(canary)
        measured = LocalTraining(config, federation, (1, 0), clips=clips).measure(models[0])
        np.testing.assert_allclose(found.clip_rates, measured.clip_rates)
        for rates_of in (FiringStatistics.layer_rates, FiringStatistics.class_rates):
            np.testing.assert_allclose(rates_of(found.firing), rates_of(measured.firing))


def test_a_canary_below_the_bound_is_harder_to_see(rates):
    config, federation, models = rates
    wide = parse_config({**config.flat(), "privacy.rate-clip-norm": 5.0})
    auc = [
        attack.result(0.95).auc
        for attack in (
            attack_private_rates(
                which, federation, models, mechanism=Mechanism.CORRECT, epsilon=8.0,
                repeats=REPEATS,
            )
            for which in (config, wide)
        )
    ]  # fmt: skip
    assert auc[0] > 0.8
    assert auc[1] < 0.6


def test_a_class_without_a_clip_is_no_obstacle(rates):
    # two clips a client at most: most classes have a rate only where a canary is
    config, federation, _ = rates
    config = parse_config({**config.flat(), "data.clients": 40, "data.partitioner": "iid"})
    small = prepare(config)
    attack = attack_raw_rates(config, small, public_models(config, small), canaries=8)
    assert np.isfinite(attack.scores).all()
    assert ((attack.scores > 0.5) == attack.included).mean() > 0.98
    assert federation.classes == small.classes


def test_clients_of_other_time_steps_report_rates_in_their_own(rates):
    """Reproduction: canaries had the server's steps, and did not fit beside the clients' clips."""
    config = parse_config({**rates[0].flat(), "data.frame-hops": "25,50,100"})
    federation = prepare(config)
    attack = attack_raw_rates(config, federation, public_models(config, federation), canaries=8)
    assert ((attack.scores > 0.5) == attack.included).mean() > 0.95
