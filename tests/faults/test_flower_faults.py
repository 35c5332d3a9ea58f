"""Flower's own simulation: bad answers, a kill and a resumed run give what the own engine gives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from fnl.config import parse_config
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import read_run
from fnl.runtime.run_lock import is_locked
from tests.faults.faulty_app import FAULTS

ROOT = Path(__file__).resolve().parents[2]
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


def _settings(flat):
    return [
        f"--set={key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in flat.items()
    ]


def _same(one: Path, other: Path) -> None:
    assert read_run(one)["model_sha256"] == read_run(other)["model_sha256"]
    for name in ("rounds", "clients", "layers", "faults"):
        tables = [
            pl.read_parquet(path / f"{name}.parquet").drop("seconds", strict=False)
            for path in (one, other)
        ]
        assert tables[0].equals(tables[1], null_equal=True), name


def _in_process(flat, client_app: str) -> Path:
    flat = flat | {"run.name": "in-process"}
    run_in_process("server.app:app", client_app, clients=4, run_config=flat, notify=lambda _: None)
    return Path(flat["run.results-dir"]) / "in-process"


@pytest.mark.parametrize("probe", [False, True])
def test_bad_answers(flat, tmp_path, probe):
    if probe:
        flat |= {"coordination.probe": True, "coordination.selected": 4}
    results = Path(flat["run.results-dir"])
    results.mkdir()
    (results / FAULTS).write_text(json.dumps(BAD_IN_PHASES if probe else BAD))
    app = tmp_path / "app"
    skipped = shutil.ignore_patterns(".*", "results", "__pycache__")
    shutil.copytree(ROOT, app, ignore=skipped, symlinks=True)
    project = app / "pyproject.toml"
    text = project.read_text().replace("clients.app:app", "tests.faults.faulty_app:app")
    project.write_text(text)
    command = [sys.executable, "-m", "fnl.cli", "run", "--engine=flower", f"--app={app}"]
    environment = os.environ | {"PYTHONPATH": str(app)}
    completed = subprocess.run(
        [*command, *_settings(flat)],
        cwd=app,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    ours = _in_process(flat, "tests.faults.faulty_app:app")
    faults = pl.read_parquet(results / "flower" / "faults.parquet")
    assert faults.select("round", "partition", "kind").rows() == [
        (2, 0, "crashed"),
        (2, 2, "not-finite"),
        (3, 1, "malformed"),
    ]
    assert read_run(results / "flower")["model_sha256"] == read_run(ours)["model_sha256"]


def _server_process(path: Path) -> int:
    """Return the process that holds the run's lock."""
    for process in Path("/proc").iterdir():
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if str(path / "run.lock") in links:
            return int(process.name)
    raise AssertionError("nobody holds the lock")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_killed_server_is_resumed(flat):
    path = Path(flat["run.results-dir"]) / "flower"
    command = [sys.executable, "-m", "fnl.cli", "run", "--engine=flower", *_settings(flat)]
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
    resume = [sys.executable, "-m", "fnl.cli", "resume", "--engine=flower", str(path)]
    completed = subprocess.run(resume, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert "resumed after round" in completed.stderr
    _same(path, _in_process(flat, "clients.app:app"))
