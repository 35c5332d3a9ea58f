"""Client-level privacy on bad days: an update that is not taken is one of zero, whatever it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fnl.config import parse_config
from fnl.runtime.run_directory import read_run
from tests.faults.conftest import TINY
from tests.faults.faulty_grid import run_with_faults
from tests.faults.injection import CONTENT, TRANSPORT, UPLOAD_KINDS
from tests.faults.test_faults import Only

CLIENT = {
    "privacy.mode": "both",
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
    "coordination.candidates": 4,
    "coordination.selected": 4,
    "run.rounds": 2,
}
HARMLESS = ("twice", "late", "stranger")


class OnlyUpload(Only):
    def fault(self, server_round, partition):
        return None

    def upload_fault(self, server_round, partition):
        at_round, of, kind = self._where
        return kind if (server_round, partition) == (at_round, of) else None


def finished(flat, schedule) -> tuple[str, pl.DataFrame]:
    run_with_faults(flat, schedule)
    path = Path(flat["run.results-dir"]) / flat["run.name"]
    record = read_run(path)
    assert record["status"] == "finished"
    return str(record["model_sha256"]), pl.read_parquet(path / "rounds.parquet")


@pytest.fixture
def flat(small_config):
    return parse_config(small_config | TINY | CLIENT).flat()


@pytest.fixture(scope="module")
def silent(tmp_path_factory, shared_cache):
    """The hash of the run in which one client's answers of round 2 never came."""
    from tests.conftest import SMALL

    paths = {
        "run.results-dir": str(tmp_path_factory.mktemp("silent")),
        "data.cache-dir": str(shared_cache),
    }
    flat = parse_config(SMALL | TINY | CLIENT | paths).flat()
    return finished(flat, Only("lost on the way back"))[0]


@pytest.mark.parametrize("kind", [k for k in CONTENT | TRANSPORT if k not in HARMLESS])
def test_why_an_update_was_not_taken_cannot_be_told_from_the_model(flat, silent, kind):
    model, _ = finished(flat, Only(kind))
    assert model == silent


@pytest.mark.parametrize("kind", [k for k in UPLOAD_KINDS if k not in HARMLESS])
def test_nor_from_that_of_a_round_with_a_probe(flat, silent, kind):
    model, _ = finished(flat | {"coordination.probe": True}, OnlyUpload(kind))
    assert model == silent


def test_a_rejected_update_moves_nobody_elses_share(flat, silent):
    """The reviewer's test: told apart 40 of 40 times when shares were taken among the answered."""
    all_there, _ = finished(flat, Only("twice"))
    assert all_there != silent  # the client is selected in round 2: its update counts
    path = Path(flat["run.results-dir"])
    quiet = flat | {"run.name": "quiet", "privacy.client-noise-multiplier": 1e-9}
    loud = quiet | {"run.name": "loud"}
    finished(quiet, Only("nan"))
    finished(loud, Only("twice"))
    tables = [pl.read_parquet(path / name / "clients.parquet") for name in ("quiet", "loud")]
    weights = [
        table.filter((pl.col("round") == 2) & (pl.col("partition") != 1)).select(
            "partition", "selected", "weight", "score"
        )
        for table in tables
    ]
    assert weights[0].equals(weights[1], null_equal=True)


def test_rounds_in_which_nothing_can_be_taken_are_noise_and_go_on(flat):
    class Everybody(Only):
        def fault(self, server_round, partition):
            return "nan" if server_round == 1 else None

    _, rounds = finished(flat | {"coordination.minimum": 4}, Everybody("nan"))
    assert rounds["rejected"].to_list()[-2:] == [4, 0]
    assert np.isfinite(rounds["accuracy"].to_numpy()).all()
