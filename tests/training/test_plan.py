"""The steps of a round: from epochs, or as many as are asked for, on a sample or on all clips."""

from __future__ import annotations

import pytest

from fnl.config import parse_config
from fnl.privacy.ledger import Ledger
from fnl.training.plan import plan_of
from fnl.training.spending import noise_of, workload_of


@pytest.mark.parametrize(
    ("keys", "steps", "rate"),
    [
        ({"training.batch-size": 20, "training.local-epochs": 3.0}, 12, 0.25),
        ({"training.batch-size": 20, "training.steps": 5}, 5, 0.25),
        ({"training.batch-size": 0, "training.local-epochs": 3.0}, 3, 1.0),
        ({"training.batch-size": 0, "training.steps": 1}, 1, 1.0),
        ({"training.batch-size": 500, "training.steps": 2}, 2, 1.0),
    ],
    ids=str,
)
def test_steps_and_rate_of_eighty_clips(keys, steps, rate):
    plan = plan_of(parse_config(keys), 80, server_round=1)
    assert (plan.steps, plan.sample_rate) == (steps, rate)


def test_full_batches_are_accounted_as_gaussian_mechanisms_without_sampling():
    config = parse_config(
        {
            "training.batch-size": 0,
            "training.steps": 2,
            "run.rounds": 5,
            "coordination.candidates": 20,
            "privacy.rate-release": "none",
        }
    )
    work = workload_of(config, 0, 81)
    sigma = noise_of(config, work).gradients
    assert (work.sample_rate, work.steps, work.rounds) == (1.0, 2, 5)
    # ten Gaussian mechanisms of one σ are one of σ/√10
    one = Ledger().spend(sigma / 10**0.5, 1.0, 1).epsilon(config.privacy.delta, "prv")
    assert 0.98 * config.privacy.epsilon < one <= config.privacy.epsilon + 1e-3
