"""A federation small enough to audit in seconds."""

import pytest

from fnl.config import Config, parse_config
from fnl.data.federated import Federation, prepare

AUDITED = {
    "data.speakers": 10,
    "data.clips-per-word": 1,
    "data.frame-hop-ms": 50,
    "model.hidden": "48",
    "training.optimizer": "sgd",
    "training.learning-rate": 0.01,
    "training.batch-size": 100_000,  # every clip takes part in every step
    "training.local-epochs": 1.0,
    "privacy.delta": 1e-5,
    "evaluation.shadow": False,
    "run.rounds": 5,
}


@pytest.fixture
def audited(small_config) -> tuple[Config, Federation]:
    """Four clients of 20 clips of 20 steps; full batches, one step a round, five rounds."""
    config = parse_config({**small_config, **AUDITED})
    return config, prepare(config)
