"""A run that was killed at any instant of its writing goes on to the bits of one that was not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fnl.config import parse_config
from fnl.data.federated import open_federation
from fnl.errors import RunError
from fnl.runtime.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from fnl.runtime.events import RunNote, RunResumed, text_of
from fnl.runtime.run_directory import RunDirectory, read_run
from fnl.runtime.run_place import check_name, config_of
from tests.conftest import SMALL
from tests.faults.conftest import RESUMED
from tests.faults.killing import run_and_kill
from tests.runs import assert_same_run, path_of, run_here


@pytest.fixture
def flat(small_config):
    return parse_config(small_config | RESUMED).flat()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shared_cache):
    """The same run, uninterrupted: its directory and the number of instants it may be killed at."""
    folder = tmp_path_factory.mktemp("whole")
    paths = {"run.results-dir": str(folder), "data.cache-dir": str(shared_cache)}
    config = parse_config(SMALL | RESUMED | paths)
    open_federation(config)  # or writing the features would be counted here, and nowhere else
    flat = config.flat()
    assert not run_and_kill(flat, 0, folder / "instants")
    return path_of(flat), int((folder / "instants").read_text())


@pytest.fixture(scope="module")
def killed(whole, tmp_path_factory, shared_cache):
    folder = tmp_path_factory.mktemp("killed")
    paths = {"run.results-dir": str(folder), "data.cache-dir": str(shared_cache)}
    flat = parse_config(SMALL | RESUMED | paths).flat()
    assert run_and_kill(flat, whole[1] * 3 // 4, folder / "unused")
    assert len(checkpoints(path_of(flat) / "checkpoints")) >= 2
    return path_of(flat)


BESIDE = pytest.mark.parametrize("beside", [False, True], ids=["in turn", "beside the next round"])
"""When a round is written."""


@BESIDE
def test_killed_at_some_instants(flat, whole, tmp_path, beside):
    path, instants = whole
    assert instants > 100
    for instant in np.random.default_rng(7 + beside).integers(1, instants * 9 // 10, 3):
        shutil.rmtree(path_of(flat), ignore_errors=True)
        assert run_and_kill(flat, int(instant), tmp_path / "unused", beside=beside)
        run_here(flat)
        assert_same_run(path_of(flat), path)


@pytest.mark.slow
@BESIDE
def test_killed_at_every_instant(flat, whole, tmp_path, beside):
    path, instants = whole
    for instant in range(1, instants + 1):
        shutil.rmtree(path_of(flat), ignore_errors=True)
        assert run_and_kill(flat, instant, tmp_path / "unused", beside=beside)
        if (path_of(flat) / "run.json").exists() and read_run(path_of(flat))[
            "status"
        ] == "finished":
            continue  # what was left to do was to tidy up
        run_here(flat)
        assert_same_run(path_of(flat), path)
        left = [file.name for file in path_of(flat).rglob(".*")]
        assert not left, f"instant {instant} left {left}"


def test_killed_twice_and_while_it_resumed(flat, whole, tmp_path):
    path, instants = whole
    assert run_and_kill(flat, instants // 3, tmp_path / "unused")
    assert run_and_kill(flat, 5, tmp_path / "unused")
    assert run_and_kill(flat, instants // 3, tmp_path / "unused")
    said = run_here(flat)
    assert any(isinstance(event, RunResumed) for event in said)
    assert_same_run(path_of(flat), path)
    assert len(read_run(path_of(flat))["resumed"]) >= 2


def test_a_damaged_checkpoint_is_refused_with_the_reason_and_the_one_before_used(
    flat, whole, stopped
):
    newest, second = checkpoints(stopped / "checkpoints")[:2]
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    said = run_here(flat)
    reason = f"checkpoint refused: {newest.name} is damaged: its checksum is another"
    assert RunNote(reason) in said
    assert RunResumed(int(second.stem[-6:])) in said
    assert_same_run(stopped, whole[0])


@pytest.fixture
def stopped(killed, flat) -> Path:
    """A run that was killed after some checkpoints."""
    return shutil.copytree(killed, path_of(flat))


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "noise": lambda data: bytes(len(data)),
    "huge header": lambda data: b"\xff" * 8 + data[8:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_damage_is_one_line(flat, whole, stopped, damage):
    for file in checkpoints(stopped / "checkpoints"):
        file.write_bytes(damage(file.read_bytes()))
    said = run_here(flat)
    refused = [event.text for event in said if isinstance(event, RunNote)]
    assert refused
    for line in refused:
        assert line.startswith("checkpoint refused: ")
        assert "\n" not in line
        assert "is damaged" in line
    assert RunResumed(0) in said
    assert_same_run(stopped, whole[0])


def test_damaged_rows_are_refused(flat, whole, stopped):
    journal = stopped / "checkpoints" / "rows.jsonl"
    content = bytearray(journal.read_bytes())
    content[20] ^= 1
    journal.write_bytes(content)
    said = run_here(flat)
    assert any("its rows are damaged" in text_of(event) for event in said)
    assert_same_run(stopped, whole[0])


def test_a_checkpoint_of_another_configuration_is_refused(flat, whole, stopped):
    newest = checkpoints(stopped / "checkpoints")[0]
    good = load_checkpoint(newest, identity=parse_config(flat).identity())
    theirs = parse_config(flat | {"training.learning-rate": 0.02}).identity()
    save_checkpoint(stopped / "checkpoints", replace(good, server_round=9, identity=theirs))
    said = run_here(flat)
    reason = "checkpoint refused: round-000009.safetensors belongs to another configuration"
    assert RunNote(reason) in said
    assert RunResumed(good.server_round) in said
    assert_same_run(stopped, whole[0])


@pytest.mark.usefixtures("stopped")
def test_another_configuration_under_the_same_name_is_refused(flat):
    with pytest.raises(RunError, match=r"training\.learning-rate = 0\.005, not 0\.02"):
        check_name(parse_config(flat | {"training.learning-rate": 0.02}))


def test_a_finished_run_is_refused(flat):
    run_here(flat)
    with pytest.raises(RunError, match="is finished"):
        run_here(flat)


def test_a_running_run_is_refused(flat):
    config = parse_config(flat)
    directory = RunDirectory.open(config, engine="test", metadata={})
    with pytest.raises(RunError, match="still running"):
        RunDirectory.open(config, engine="test", metadata={})
    with pytest.raises(RunError, match="still running"):
        check_name(config)
    directory.fail("stopped")
    check_name(config)


def test_a_failed_run_goes_on_from_the_round_it_failed_in(flat, whole):
    flat = flat | {"run.checkpoint-every": 0}
    with pytest.raises(RunError, match="no clips today"):
        run_here(flat, "tests.faults.failing_in_round_three:app")
    assert read_run(path_of(flat))["status"] == "failed"
    assert RunResumed(2) in run_here(flat)
    assert_same_run(path_of(flat), whole[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"coordination.server-optimizer": "fedadam", "coordination.selection": "round-robin"},
        {"privacy.clipping": "adaptive", "evaluation.floor": True},
        {"coordination.aggregation": "afedsnn", "coordination.probe": True},
    ],
    ids=["server optimizer", "adaptive clipping", "information age"],
)
def test_what_is_remembered_between_rounds_is_restored(flat, changes):
    flat = parse_config(flat | changes).flat()
    whole = flat | {"run.name": "whole"}
    run_here(whole)
    with pytest.raises(RunError, match="no clips today"):
        run_here(flat, "tests.faults.failing_in_round_three:app")
    assert RunResumed(2) in run_here(flat)
    assert_same_run(path_of(flat), path_of(whole))


def test_a_directory_that_was_moved_goes_on_where_it_is(whole, stopped, tmp_path):
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    stopped.rename(moved)
    run_here(config_of(moved).flat())
    assert_same_run(moved, whole[0])


def test_checkpoints_stay_few_and_the_rows_leave_with_the_last_round(flat):
    run_here(flat | {"run.rounds": 6})
    names = sorted(file.name for file in (path_of(flat) / "checkpoints").iterdir())
    assert names == [f"round-{number:06d}.safetensors" for number in (4, 5, 6)]


def test_a_run_that_was_killed_before_it_began_leaves_the_name_free(flat, whole):
    path_of(flat).mkdir(parents=True)
    (path_of(flat) / ".run.json.abc").write_text("{")
    (path_of(flat) / "run.lock").write_text("")
    run_here(flat)
    assert_same_run(path_of(flat), whole[0])


def test_a_folder_with_something_else_in_it_is_not_touched(flat):
    path_of(flat).mkdir(parents=True)
    (path_of(flat) / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="exists already"):
        run_here(flat)
    assert [file.name for file in path_of(flat).iterdir()] == ["thesis.tex"]


def test_the_record_says_where_a_run_was_resumed(flat, stopped):
    newest = checkpoints(stopped / "checkpoints")[0]
    run_here(flat)
    record = json.loads((stopped / "run.json").read_text())
    (entry,) = record["resumed"]
    assert entry["engine"] == "in-process"
    assert entry["after_round"] == int(newest.stem[-6:]) >= 2
