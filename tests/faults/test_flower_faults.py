"""Flower's own simulation: bad answers, a kill and a resumed run give what the own engine gives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fnl.config import parse_config
from fnl.runtime.run_directory import read_run
from fnl.runtime.run_lock import is_locked
from tests.faults.conftest import plan_faults
from tests.faults.injection import FORGED
from tests.runs import (
    ROOT,
    assert_same_run,
    directory_of,
    fnl,
    model_of,
    path_of,
    run_here,
    settings,
    table,
)

BAD = {"2": {"0": "crash", "2": "nan"}, "3": {"1": "an array missing"}}
BAD_IN_PHASES = {
    "2": {"0": "crash", "2": "upload: nan"},
    "3": {"1": "upload: an array missing"},
}

pytestmark = pytest.mark.slow


@pytest.fixture
def flat(small_config):
    changes = {
        "run.name": "flower",
        "run.rounds": 5,
        "run.checkpoint-every": 1,
        "coordination.candidates": 4,
        "coordination.selected": 3,
        "coordination.minimum": 1,
        "evaluation.shadow": False,
    }
    return parse_config(small_config | changes).flat()


def _through_flower(flat, app: Path) -> Path:
    """Run a copy of the app, made at `app`, whose clients have the faults planned for them."""
    skipped = shutil.ignore_patterns(".*", "results", "__pycache__")
    shutil.copytree(ROOT, app, ignore=skipped, symlinks=True)
    project = app / "pyproject.toml"
    text = project.read_text().replace("clients.app:app", "tests.faults.faulty_app:app")
    project.write_text(text)
    options = ["--engine=flower", f"--app={app}", *settings(flat)]
    return directory_of(fnl("run", *options, cwd=app, path=str(app)))


def _in_process(flat, client_app: str) -> Path:
    flat = flat | {"run.name": "in-process"}
    run_here(flat, client_app)
    return path_of(flat)


@pytest.mark.parametrize("probe", [False, True])
def test_bad_answers(flat, tmp_path, probe):
    if probe:
        flat |= {"coordination.probe": True, "coordination.selected": 4}
    plan_faults(flat, BAD_IN_PHASES if probe else BAD)
    _through_flower(flat, tmp_path / "app")
    ours = _in_process(flat, "tests.faults.faulty_app:app")
    assert table(flat, "faults").select("round", "partition", "kind").rows() == [
        (2, 0, "crashed"),
        (2, 2, "not-finite"),
        (3, 1, "malformed"),
    ]
    assert model_of(flat) == read_run(ours)["model_sha256"]


FORGERIES = [
    *("noise-multiplier = 5e-324", "noise-multiplier = 1e-200", "noise-multiplier = 1.7e+308"),
    *("epsilon = inf", "delta = 5e-324", "steps = 1000", "sample-rate = 0.0"),
    *("num-examples = 1", "seconds = nan", "an array with a pickle", "a refusal in markup"),
    "sigma of a tenth of the cost",
]


def test_a_dozen_forged_replies(flat, tmp_path):
    flat |= {"run.rounds": 6, "coordination.selected": 4}
    faults = {
        str(number + 1): {"0": FORGERIES[2 * number], "2": FORGERIES[2 * number + 1]}
        for number in range(6)
    }
    plan_faults(flat, faults)
    assert _through_flower(flat, tmp_path / "app") == path_of(flat)
    assert read_run(path_of(flat))["status"] == "finished"
    assert table(flat, "faults").select("round", "partition", "kind").rows() == [
        (number, partition, FORGED[kind].value)
        for number in range(1, 7)
        for partition, kind in ((p, faults[str(number)][str(p)]) for p in (0, 2))
    ]
    without = flat | {"run.name": "without"}
    plan_faults(without, {number: dict.fromkeys(of, "crash") for number, of in faults.items()})
    run_here(without, "tests.faults.faulty_app:app")
    assert model_of(flat) == model_of(without)


def _server_process(path: Path) -> int:
    """Return the process that holds the run's lock."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # a file closed, or a process ended, since it was listed
            if os.readlink(link) == str(path / "run.lock"):
                return int(link.parts[2])
    raise AssertionError("nobody holds the lock")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_killed_server_is_resumed(flat):
    path = path_of(flat)
    command = [sys.executable, "-m", "fnl.cli", "run", "--engine=flower", *settings(flat)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        journal = path / "checkpoints" / "rows.jsonl"
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(_server_process(path), signal.SIGKILL)
        assert process.wait() != 0
    assert not is_locked(path)
    completed = fnl("resume", "--engine=flower", str(path))
    assert completed.returncode == 0, completed.stderr
    assert "resumed after round" in completed.stderr
    assert_same_run(path, _in_process(flat, "clients.app:app"))
