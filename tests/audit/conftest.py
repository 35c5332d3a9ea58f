"""A federation small enough to audit in seconds, and a fault that audits have to find."""

import numpy as np
import pytest

from fnl.clip_draws import BatchDraws
from fnl.config import Config, parse_config
from fnl.data.federated import Federation, prepare
from tests.runs import dotted, settings

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


@pytest.fixture
def cli(command, audited):
    """Return a function that runs `fnl audit …` on the small federation: (exit, stdout, stderr)."""
    config, _ = audited

    def run(*arguments, **changes):
        return command("audit", *arguments, *settings({**config.flat(), **dotted(changes)}))

    return run


@pytest.fixture
def by_place(monkeypatch) -> None:
    """Have clips draw by their place in the mini-batch, as they once did."""

    def ids(draws: BatchDraws) -> np.ndarray:
        return np.arange(len(draws.clips.ids[draws.rows]), dtype=np.uint64)

    monkeypatch.setattr(BatchDraws, "ids", property(ids))
