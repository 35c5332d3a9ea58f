"""A run directory is whole at every instant, and never takes another run's place."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import polars as pl
import pytest
import safetensors.numpy

from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime import atomic
from fnl.runtime.atomic import write_atomically
from fnl.runtime.atomic import written as written_to
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.run_lock import is_locked
from fnl.runtime.saved_rounds import RunState
from fnl.runtime.table_reading import read_parquet
from fnl.runtime.tables import CLIENTS, LAYERS, ROUNDS
from tests.runs import flip_a_bit

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


def _create(tmp_path, **over):
    config = parse_config({"run.results-dir": str(tmp_path / "results"), **over})
    return RunDirectory.create(config, engine="test", metadata={})


def test_unnamed_runs_get_names_of_their_own(tmp_path):
    first, second = _create(tmp_path), _create(tmp_path)
    assert second.path.name == f"{first.path.name}-2"


def test_a_taken_name_is_refused(tmp_path):
    _create(tmp_path, **{"run.name": "mine"})
    with pytest.raises(RunError, match="mine exists already"):
        _create(tmp_path, **{"run.name": "mine"})


def test_tables_have_the_contracts_columns_and_null_for_what_does_not_apply(tmp_path):
    directory = _create(tmp_path)
    directory.add({"round": 0, "accuracy": 0.5}, [], [])
    directory.finish(WEIGHTS)
    for name, schema in (("rounds", ROUNDS), ("clients", CLIENTS), ("layers", LAYERS)):
        assert pl.read_parquet_schema(directory.path / f"{name}.parquet") == schema
    row = pl.read_parquet(directory.path / "rounds.parquet").row(0, named=True)
    assert row["accuracy"] == 0.5
    assert row["epsilon_max"] is None


def test_an_unknown_column_is_an_error(tmp_path):
    directory = _create(tmp_path)
    with pytest.raises(ValueError, match=r"rounds has no column .*acuracy"):
        directory.add({"round": 0, "acuracy": 0.5}, [], [])


def test_a_finished_run_has_its_model(tmp_path):
    directory = _create(tmp_path)
    directory.finish(WEIGHTS)
    loaded = safetensors.numpy.load_file(directory.path / "model.safetensors")
    np.testing.assert_array_equal(loaded["a"], WEIGHTS["a"])
    assert read_run(directory.path)["status"] == "finished"


def test_a_failed_run_says_why_and_keeps_its_rounds(tmp_path):
    directory = _create(tmp_path)
    directory.add({"round": 0, "accuracy": 0.5}, [], [])
    directory.fail("RunError: out of clients")
    assert read_run(directory.path)["error"] == "RunError: out of clients"
    assert len(pl.read_parquet(directory.path / "rounds.parquet")) == 1


def test_results_that_cannot_be_written_are_one_error(tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(RunError, match=r"cannot write to run\.results-dir"):
        _create(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")

    def half(temporary):
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("content", [None, "{", json.dumps([]), json.dumps({})])
def test_what_is_not_a_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="is not a run directory"):
        read_run(tmp_path)


def test_a_directory_that_goes_away_is_one_error_that_names_it(tmp_path):
    directory = _create(tmp_path)
    directory.add({"round": 0}, [], [])
    directory.path.rename(tmp_path / "moved")
    with pytest.raises(RunError, match=r"cannot write to the run directory .*No such file"):
        directory.add({"round": 1}, [], [])
    directory.fail("it is gone")  # nothing is left to write, and nothing is raised
    assert read_run(tmp_path / "moved")["status"] == "running"


def test_a_failed_run_says_so_even_if_its_tables_cannot_be_written(tmp_path, monkeypatch):
    directory = _create(tmp_path)

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory._tables, "flush", full)
    directory.fail("out of space")
    assert read_run(directory.path)["status"] == "failed"


@pytest.mark.parametrize("name", ["rounds", "clients", "layers", "faults"])
def test_a_flipped_bit_of_a_finished_table_is_seen(tmp_path, name):
    directory = _create(tmp_path)
    directory.add({"round": 0, "accuracy": 0.5}, [], [])
    directory.finish(WEIGHTS)
    path = directory.path / f"{name}.parquet"
    read_parquet(path)
    flip_a_bit(path)
    with pytest.raises(RunError, match=rf"{name}\.parquet is damaged: its SHA-256"):
        read_parquet(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"status": "finished", "seconds": 1' + "0" * 400 + "}", "too large"),
        ('{"status": "finished", "seed": 9223372036854775808}', "too large"),
        ('{"status": "\\ud800"}', "surrogates"),
        ('{"status": "finished", "checksum": "0"}', "checksum"),
    ],
)
def test_a_record_that_cannot_be_a_runs_is_refused(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(tmp_path)


def _state(number):
    return RunState(number, WEIGHTS, {}, {})


class FullDisk:
    """Writing fails from the moment on that it is full, but for what space is given back."""

    def __init__(self, monkeypatch, directory):
        self._directory = directory
        real = atomic.write_atomically

        def write(path, content):
            if path.name != "run.json" or (path.parent / ".run.json.reserve").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(path, content)

        monkeypatch.setattr("fnl.runtime.table_files.write_atomically", write)
        monkeypatch.setattr("fnl.runtime.checkpoint.write_atomically", write)
        monkeypatch.setattr("fnl.runtime.atomic.write_atomically", write)


def test_a_full_disk_is_one_line_and_the_record_says_failed(tmp_path, monkeypatch):
    directory = _create(tmp_path)
    directory.add({"round": 0, "accuracy": 0.5}, [], [])
    directory.round_done(_state(1), save=False)
    FullDisk(monkeypatch, directory)
    with pytest.raises(RunError, match=r"No space left on device; make room there.*fnl resume"):
        directory.round_done(_state(1), save=True)
    directory.fail("RunError: no space")
    assert read_run(directory.path)["status"] == "failed"
    assert not is_locked(directory.path)


def test_an_interrupted_run_says_so_and_goes_on(tmp_path):
    directory = _create(tmp_path, **{"run.name": "mine"})
    directory.add({"round": 0, "accuracy": 0.5}, [], [])
    directory.add({"round": 1, "accuracy": 0.5}, [], [])
    directory.round_done(_state(1), save=None)
    directory.fail("interrupted", status="interrupted")
    assert read_run(directory.path)["status"] == "interrupted"
    config = parse_config({"run.results-dir": str(tmp_path / "results"), "run.name": "mine"})
    again = RunDirectory.open(config, engine="test", metadata={})
    assert again.resumed_from is not None
    assert again.resumed_from.server_round == 1
    again.finish(WEIGHTS)
    assert not list(again.path.glob(".*"))


def test_checkpoints_that_nobody_asked_for_take_a_share_of_the_time_and_go_at_the_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("fnl.runtime.saved_rounds.FIRST_CHECKPOINT_SECONDS", 0.0)
    directory = _create(tmp_path)
    written = 0
    for number in range(1, 40):
        directory.add({"round": number, "accuracy": 0.5}, [], [])
        directory.round_done(_state(number), save=None)
        written = max(written, len(list((directory.path / "checkpoints").glob("round-*"))))
    assert written == 1  # forty rounds of no time are not a hundred times a checkpoint's
    directory.finish(WEIGHTS)
    assert not list((directory.path / "checkpoints").glob("round-*"))


def test_a_folder_in_the_place_of_a_table_is_named_with_what_to_do(tmp_path):
    directory = _create(tmp_path)
    table = directory.path / "rounds.parquet"
    table.unlink()
    table.mkdir()
    said = r"remove what is in the place of rounds\.parquet"
    with pytest.raises(RunError, match=said), written_to(directory.path):
        directory._tables.flush()
