"""A client whose process dies or hangs is one lost answer, on worker processes and on Flower's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import read_run
from tests.faults.faulty_app import FAULTS

ROOT = Path(__file__).resolve().parents[2]
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
    "evaluation.shadow": False,
}


@pytest.fixture
def flat(small_config):
    return parse_config(small_config | TINY).flat()


def _plan(flat, faults) -> None:
    results = Path(flat["run.results-dir"])
    results.mkdir(exist_ok=True)
    (results / FAULTS).write_text(json.dumps(faults))


def _run(flat, faults, workers=2):
    _plan(flat, faults)
    run_in_process(
        "server.app:app",
        "tests.faults.faulty_app:app",
        clients=4,
        run_config=flat,
        workers=workers,
        interruptible=True,
        notify=lambda _: None,
    )
    path = Path(flat["run.results-dir"]) / flat["run.name"]
    faults = pl.read_parquet(path / "faults.parquet").select("round", "partition", "kind")
    return path, faults.rows()


def test_a_client_whose_process_dies_is_one_lost_answer(flat):
    path, faults = _run(flat, {"2": {"1": "exit"}})
    assert faults == [(2, 1, "crashed")]
    there = pl.read_parquet(path / "clients.parquet").filter(round=2)["partition"].to_list()
    assert there == [0, 2, 3]
    same, _ = _run(flat | {"run.name": "crash"}, {"2": {"1": "crash"}}, workers=1)
    assert read_run(path)["model_sha256"] == read_run(same)["model_sha256"]


@pytest.mark.slow
def test_a_client_that_hangs_is_given_up_at_the_deadline(flat):
    flat = flat | {"run.reply-timeout": 60.0}
    started = time.monotonic()
    path, faults = _run(flat, {"2": {"1": "hang"}})
    assert time.monotonic() - started < 600
    assert (2, 1, "no-answer") in faults
    assert read_run(path)["status"] == "finished"


def test_a_process_that_dies_stops_a_run_that_needs_all(flat):
    with pytest.raises(RunError, match="partition 1: crashed: its process died"):
        _run(flat | {"coordination.minimum": 0}, {"1": {"1": "exit"}})


_KILLED = """
import os, sys, json, threading, time
from fnl.runtime.in_process import run_in_process
flat = json.loads(sys.argv[1])
run_in_process("server.app:app", "tests.faults.faulty_app:app", clients=4, run_config=flat,
               workers=2, notify=lambda event: print(event, flush=True))
"""


def _children(pid: int) -> set[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found, grown = {pid}, True
    while grown:
        new = {child for child, parent in pairs if parent in found} - found
        found |= new
        grown = bool(new)
    return found - {pid}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_run_that_is_killed_leaves_no_workers(flat):
    _plan(flat, {"1": {"1": "hang"}})
    command = [sys.executable, "-c", _KILLED, json.dumps(flat)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the run directory is there, the workers train
        workers = _children(process.pid)
        assert workers
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if _alive(pid)]
