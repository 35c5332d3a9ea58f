"""A client whose process dies or hangs is one lost answer, on worker processes and on Flower's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fnl.errors import RunError
from fnl.runtime.run_directory import read_run
from tests.faults.conftest import plan_faults, run_on_workers
from tests.runs import ROOT, model_of, path_of, table

pytestmark = pytest.mark.slow
WORKERS = {"workers": 2, "interruptible": True}


def test_a_client_whose_process_dies_is_one_lost_answer(flat):
    faults = run_on_workers(flat, {"2": {"1": "exit"}}, **WORKERS)
    assert faults == [(2, 1, "crashed")]
    assert table(flat, "clients").filter(round=2)["partition"].to_list() == [0, 2, 3]
    same = flat | {"run.name": "crash"}
    run_on_workers(same, {"2": {"1": "crash"}}, workers=1, interruptible=True)
    assert model_of(flat) == model_of(same)


def test_a_client_that_hangs_is_given_up_at_the_deadline(flat):
    flat = flat | {"run.reply-timeout": 60.0}
    started = time.monotonic()
    faults = run_on_workers(flat, {"2": {"1": "hang"}}, **WORKERS)
    assert time.monotonic() - started < 600
    assert (2, 1, "no-answer") in faults
    assert read_run(path_of(flat))["status"] == "finished"


def test_a_process_that_dies_stops_a_run_that_needs_all(flat):
    with pytest.raises(RunError, match="partition 1: crashed: its process died"):
        run_on_workers(flat | {"coordination.minimum": 0}, {"1": {"1": "exit"}}, **WORKERS)


_KILLED = """
import os, sys, json, threading, time
from fnl.config import parse_config
from fnl.runtime.in_process import run_in_process
run_in_process(parse_config(json.loads(sys.argv[1])), client_app="tests.faults.faulty_app:app",
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
    plan_faults(flat, {"1": {"1": "hang"}})
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
