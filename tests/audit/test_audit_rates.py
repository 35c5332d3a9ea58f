"""Attacks on rates: in the clear nearly every coin is read, the private release keeps its claim."""

import numpy as np
import pytest
from scipy.stats import norm

from fnl.audit.claims import Mechanism
from fnl.audit.rates import attack_private_rates, attack_raw_rates, public_models
from fnl.config import parse_config
from fnl.data.federated import prepare

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
