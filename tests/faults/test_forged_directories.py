"""A forged run directory: refused in one line or gone on with, and nothing outside is touched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from fnl.errors import FnlError, RunError
from fnl.interchange.pretrained import load_pretrained
from fnl.runtime.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from fnl.runtime.journal import Mark
from fnl.runtime.releases import Releases
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_place import check_name, config_of
from fnl.runtime.run_record import read_run, write_record
from fnl.runtime.saved_rounds import RunState
from fnl.snn.network import build_network
from server.resumption import take_over
from server.rounds import Rounds
from server.spending import Spending

SECRET = b"precious\nwithout a newline at its end"


@pytest.fixture
def run(stopped, tmp_path) -> Path:
    """A copy of it to forge."""
    return Path(shutil.copytree(stopped, tmp_path / "forged", symlinks=True))


def go_on(run: Path) -> RunDirectory:
    """Do what `fnl resume` does before it asks a client."""
    config = config_of(run)
    check_name(config)
    directory = RunDirectory.open(
        config, engine="test", metadata={"initial": read_run(run).get("initial")}
    )
    try:
        Releases(run)
        if (state := directory.resumed_from) is not None:
            data = config.data
            network = build_network(config.model, data.mel_bins, _labels(run), seed=0)
            take_over(state, network, Rounds(config, {}, Mock()), Spending(config))
    finally:
        directory.fail("stopped again")
    return directory


def _labels(run: Path) -> int:
    corpus = read_run(run)["corpus"]
    assert isinstance(corpus, dict)
    return len(corpus["labels"])


def _checkpoint(run: Path) -> Checkpoint:
    path = checkpoint_path(run / "checkpoints", 2)
    return load_checkpoint(path, identity=str(read_run(run)["identity"]))


def _only(run: Path, checkpoint: Checkpoint) -> None:
    for path in (run / "checkpoints").glob("round*"):
        path.unlink()
    save_checkpoint(run / "checkpoints", checkpoint)


def _rows(run: Path, text: str) -> None:
    """Put other rows in the journal, with a checkpoint whose mark says that they are right."""
    journal = run / "checkpoints" / "rows.jsonl"
    journal.write_text(text)
    mark = Mark(len(text), hashlib.sha256(text.encode()).hexdigest())
    _only(run, replace(_checkpoint(run), mark=mark))


def _put(path: Path, content: str | bytes | None) -> None:
    """Put a file, or a folder for None, in place of whatever is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_what_was_not_forged_goes_on(run):
    directory = go_on(run)
    assert directory.resumed_from is not None
    assert directory.resumed_from.server_round == 2
    assert directory.table("rounds")["round"].to_list() == [0, 1, 2]


@pytest.mark.parametrize(
    "name",
    [
        *("run.log", "releases.jsonl", "run.lock", ".run.json.reserve", "run.json"),
        *("digests.json", "checkpoints/rows.jsonl", "checkpoints/round-000009.safetensors"),
        *("mlflow-run-id", "checkpoints", "tensorboard", "notes/deep/link"),
    ],
)
def test_no_link_is_followed(run, tmp_path, name):
    """Reproduction: the log was appended to, and releases were truncated, elsewhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(SECRET)
    link = run / name
    if link.is_dir():
        shutil.move(link, victim := tmp_path / "folder")
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    before = sorted(victim.rglob("*"))
    link.symlink_to(victim)
    with pytest.raises(RunError) as found:
        go_on(run)
    assert len(str(found.value).splitlines()) == 1
    assert sorted(victim.rglob("*")) == before
    if victim.is_file():
        assert victim.read_bytes() == SECRET
        assert "is a link" in str(found.value) or name == "run.json"


@pytest.mark.parametrize("name", ["run.log", "run.lock", "checkpoints/round-000009.safetensors"])
def test_no_pipe_is_waited_for(run, name):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(RunError, match="is a special file"):
        go_on(run)


@pytest.mark.parametrize(
    "name",
    [
        *("run.log", "releases.jsonl", "run.lock", "rounds.parquet"),
        *("checkpoints/rows.jsonl", "checkpoints/round-000009.safetensors"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_named(run, name):
    _put(run / name, None)
    with pytest.raises(RunError, match=f"{name} is a folder in the place of a file"):
        go_on(run)


def test_a_file_in_the_place_of_the_checkpoints_is_named(run):
    _put(run / "checkpoints", "x")
    with pytest.raises(RunError, match="checkpoints is a file in the place of a folder"):
        go_on(run)


def test_a_checkpoints_name_is_no_free_text(run):
    """Reproduction: it was written into the log, which may be a script elsewhere."""
    (run / "checkpoints" / "round-000009$(touch x).safetensors").write_bytes(b"junk")
    directory = go_on(run)
    assert directory.resumed_from is not None
    assert "touch" not in (run / "run.log").read_text()
    assert not directory._saved.refused


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a later round": (
        lambda run: _only(run, replace(_checkpoint(run), server_round=99)),
        "is behind the last of 3 rounds",
    ),
    "a negative mark": (
        lambda run: _only(run, replace(_checkpoint(run), mark=Mark(-5, ""))),
        "length: Input should be greater than or equal to 0",
    ),
    "no rows": (
        lambda run: _only(run, replace(_checkpoint(run), mark=Mark())),
        "not those of the rounds 0 to 2",
    ),
    "rows that are no JSON": (lambda run: _rows(run, "x\n"), "damaged in line 1"),
    "rows nested without end": (lambda run: _rows(run, "[" * 100_000), "damaged in line 1"),
    "rows in a list": (lambda run: _rows(run, "[1]\n"), "do not fit the tables"),
    "an unknown column": (lambda run: _rows(run, '{"rounds": [{"a": 1}]}\n'), "do not fit"),
    "a row that is none": (lambda run: _rows(run, '{"rounds": [5]}\n'), "do not fit"),
    "text for a number": (
        lambda run: _rows(run, '{"rounds": [{"round": 0, "accuracy": "y"}]}\n'),
        "do not fit",
    ),
    "a number beyond its column": (
        lambda run: _rows(run, json.dumps({"rounds": [{"round": 2**70}]}) + "\n"),
        "do not fit",
    ),
    "rows of other rounds": (
        lambda run: _rows(run, '{"rounds": [{"round": 7}]}\n'),
        "not those of the rounds 0 to 2",
    ),
    "clients of no round": (
        lambda run: _rows(
            run,
            '{"rounds": [{"round": 0}], "clients": [{"round": 9, "partition": 0}]}\n'
            '{"rounds": [{"round": 1}]}\n{"rounds": [{"round": 2}]}\n',
        ),
        "not those of the rounds 0 to 2",
    ),
}


@pytest.mark.parametrize(("forge", "reason"), FORGED.values(), ids=FORGED)
def test_a_forged_checkpoint_is_set_aside_in_one_line(run, forge, reason):
    forge(run)
    directory = go_on(run)
    assert directory.resumed_from is None
    assert directory.table("rounds").is_empty()
    (refused,) = directory._saved.refused
    assert reason in refused
    assert len(refused.splitlines()) == 1
    assert "pydantic" not in refused


def test_another_checkpoints_name_is_refused(run):
    folder = run / "checkpoints"
    shutil.copy(checkpoint_path(folder, 1), checkpoint_path(folder, 3))
    directory = go_on(run)
    assert "round-000003.safetensors is the checkpoint of round 1" in directory._saved.refused[0]
    assert directory.resumed_from is not None
    assert directory.resumed_from.server_round == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"server": {}},
        {"server": {"reported": 5}},
        {"weights": {}},
        {"strategy": {}},
        {"strategy": {"history/selected": np.zeros((2, 2))}},
    ],
    ids=str,
)
def test_what_does_not_fit_the_run_is_one_line(run, changes):
    _only(run, replace(_checkpoint(run), **changes))
    with pytest.raises(RunError) as found:
        go_on(run)
    assert len(str(found.value).splitlines()) == 1
    assert "pydantic" not in str(found.value)


def test_weights_that_are_not_finite_are_refused(run):
    good = _checkpoint(run)
    weights = {name: value * np.float32(np.nan) for name, value in good.weights.items()}
    _only(run, replace(good, weights=weights))
    with pytest.raises(RunError, match="weights are not finite"):
        go_on(run)


def _eight_bits(metadata: dict[str, str]) -> bytes:
    """Return a safetensors file of a kind of number that NumPy has not."""
    tensor = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": metadata, "weights/a": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + b"0000"


def test_numbers_that_numpy_has_not_are_damage(run, tmp_path):
    """Reproduction: `AttributeError` with a trace."""
    path = checkpoint_path(run / "checkpoints", 3)
    path.write_bytes(_eight_bits({"fnl-checkpoint": "{}"}))
    assert "is damaged" in go_on(run)._saved.refused[0]
    initial = tmp_path / "initial.safetensors"
    initial.write_bytes(_eight_bits({"fnl": "{}"}))
    with pytest.raises(FnlError, match="is damaged"):
        load_pretrained(str(initial))


@pytest.mark.parametrize(
    ("content", "goes_on"),
    [("[" * 100_000 + "\n", False), (b"\xff\n", False), ('{"what": 1}\n', False), ("x", True)],
    ids=["deep", "not UTF-8", "of another kind", "cut short"],
)
def test_forged_releases_are_one_line(run, content, goes_on):
    _put(run / "releases.jsonl", content)
    if goes_on:  # nothing has left before its line was whole
        go_on(run)
        return
    with pytest.raises(RunError, match="is damaged in line 1") as found:
        go_on(run)
    assert len(str(found.value).splitlines()) == 1
    assert "pydantic" not in str(found.value)


@pytest.mark.parametrize(
    ("do", "advice"),
    [
        (shutil.rmtree, "it was moved or deleted: put it back"),
        (lambda path: path.rename(path.with_name("elsewhere")), "it was moved or deleted"),
        (lambda path: (shutil.rmtree(path), path.write_text("x")), "it was moved or deleted"),
    ],
    ids=["deleted", "moved", "a file"],
)
def test_advice_fits_what_happened_to_the_directory(run, do, advice):
    """Reproduction: "make room there"."""
    config = config_of(run)
    directory = RunDirectory.open(
        config, engine="test", metadata={"initial": read_run(run).get("initial")}
    )
    do(run)
    with pytest.raises(RunError, match=advice):
        directory.add({"round": 3}, [], [])
    with pytest.raises(RunError, match=advice):
        directory.round_done(RunState(3, {"a": np.zeros(1, np.float32)}, {}, {}), save=True)
    directory.fail("gone")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "make room there"), (errno.EROFS, "make it writable")]
)
def test_advice_fits_what_the_disk_says(run, monkeypatch, number, advice):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    directory = RunDirectory.open(
        config_of(run), engine="test", metadata={"initial": read_run(run).get("initial")}
    )
    monkeypatch.setattr("fnl.runtime.saved_rounds.save_checkpoint", refuse)
    with pytest.raises(RunError, match=advice):
        directory.round_done(RunState(3, {"a": np.zeros(1, np.float32)}, {}, {}), save=True)
    directory.fail("stopped")


@pytest.mark.parametrize("what", ["fnl.runtime.run_lock.take", "pathlib.Path.write_bytes"])
def test_a_directory_that_cannot_be_written_is_one_line(run, monkeypatch, what):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(what, refuse)
    with pytest.raises(RunError, match=r"cannot write to the run directory .*Permission denied"):
        go_on(run)


def test_the_record_of_a_run_may_name_no_results_elsewhere(run, tmp_path):
    """A run goes on where its directory is, whatever its record says."""
    record = read_run(run)
    assert isinstance(record["config"], dict)
    forged = record["config"] | {"run.results-dir": str(tmp_path / "else"), "run.name": "x"}
    write_record(run, record | {"config": forged})
    assert go_on(run).path == run
    assert not (tmp_path / "else").exists()
