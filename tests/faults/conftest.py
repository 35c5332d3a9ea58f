"""Shared by the tests of what goes wrong: a tiny federation, and its faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fnl.config import parse_config
from tests.conftest import SMALL
from tests.faults.faulty_app import FAULTS
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import Schedule
from tests.runs import path_of, run_here, table

TINY = {
    "run.name": "run",
    "run.rounds": 3,
    "model.hidden": "8",
    "training.local-epochs": 0.5,
    "data.mel-bins": 8,
    "data.frame-hop-ms": 50,
    "coordination.candidates": 4,
    "coordination.selected": 4,
    "coordination.minimum": 1,
    "coordination.max-update-norm": 100.0,
    "evaluation.shadow": False,
}
"""Four clients, all asked and selected, of which one alone makes a round."""
RESUMED = {
    "run.name": "run",
    "run.rounds": 4,
    "run.checkpoint-every": 1,
    "model.hidden": "8",
    "training.local-epochs": 0.5,
    "data.mel-bins": 8,
    "data.frame-hop-ms": 50,
    "coordination.candidates": 2,
    "coordination.selected": 1,
}
"""A run to be killed and to go on: beside `tests.conftest.SMALL`."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, shared_cache) -> Callable[..., dict]:
    """Return a maker of tiny configurations, each with a results folder of its own."""

    def make(**changes: object) -> dict:
        results = {"run.results-dir": str(tmp_path_factory.mktemp("results"))}
        paths = results | {"data.cache-dir": str(shared_cache)}
        return parse_config(SMALL | TINY | paths | changes).flat()

    return make


@pytest.fixture
def flat(tiny) -> dict:
    """The tiny configuration."""
    return tiny()


@pytest.fixture(scope="module")
def stopped(tiny) -> Path:
    """A run of three rounds that was stopped in the third, with checkpoints of the others."""

    class Gone(Schedule):
        def fault(self, server_round, partition):
            return "disconnected" if server_round == 3 else None

    flat = tiny(**{"run.checkpoint-every": 1})
    with pytest.raises(Exception, match="round 3"):
        run_with_faults(flat, Gone(seed=0, share=0.0))
    return path_of(flat)


def plan_faults(flat: dict, faults: dict) -> None:
    """Say what is to go wrong with `tests.faults.faulty_app`: round -> partition -> kind."""
    results = Path(flat["run.results-dir"])
    results.mkdir(exist_ok=True)
    (results / FAULTS).write_text(json.dumps(faults))


def run_on_workers(flat: dict, faults: dict, **options) -> list[tuple]:
    """Run with faults inside clients; return round, partition and kind of those that were seen."""
    plan_faults(flat, faults)
    run_here(flat, "tests.faults.faulty_app:app", **options)
    return table(flat, "faults").select("round", "partition", "kind").rows()
