"""The log of a run: every line an event, in files that do not grow without bound."""

from __future__ import annotations

import json

from fnl.config import parse_config
from fnl.runtime import run_log
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.run_log import RunLog


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_logs_its_start_its_rounds_its_faults_and_its_end(tmp_path):
    config = parse_config({"run.results-dir": str(tmp_path), "run.name": "mine"})
    directory = RunDirectory.open(config, engine="test", metadata={})
    fault = {"round": 1, "partition": 3, "kind": "crashed", "reason": "100 % of\nbattery"}
    directory.add({"round": 1, "accuracy": 0.5, "epsilon_max": float("inf")}, [], [], [fault])
    directory.fail("RunError: no clients")
    events = _lines(directory.path / "run.log")
    assert [event["event"] for event in events] == ["started", "fault", "round", "failed"]
    assert events[1] | fault == events[1]
    assert (events[2]["accuracy"], events[2]["epsilon_max"]) == (0.5, "inf")
    assert "loss" not in events[2]


def test_files_are_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "LARGEST_BYTES", 2000)
    log = RunLog(tmp_path / "run.log")
    for number in range(200):
        log.write("round", round=number)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"run.log", "run.log.1", "run.log.2"}
    assert max(sizes.values()) <= 2000
    assert _lines(tmp_path / "run.log")[-1]["round"] == 199
