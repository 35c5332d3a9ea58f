"""A grid survives what happens to it: killed drivers and workers, failing cells, full disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from experiments.grid import worker
from experiments.grid.cells import expand
from experiments.grid.directory import GridDirectory, taken
from experiments.grid.grid_file import read_grid_file
from fnl.config import parse_config
from fnl.errors import RunError
from fnl.runtime import run_directory
from fnl.runtime.run_directory import read_run
from tests.conftest import SMALL
from tests.grid_files import write_grid_file
from tests.runs import interrupted_in

PROJECT = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 300


def _write_grid(tmp_path, cache, **axes):
    axes = axes or {"privacy.epsilon": [2, 8], "run.seed": [0, 1]}
    # at this δ no noise keeps ε = 1e-4, so a cell with it fails
    base = SMALL | {"data.cache-dir": str(cache), "run.rounds": 3, "privacy.delta": 1e-9}
    return write_grid_file(tmp_path / "g.toml", base, axes, twins=True)


def _command(grid, results, *more):
    return [
        sys.executable, "-m", "fnl.cli", "grid", "run", str(grid), "--results-dir", str(results),
        "--workers", "2", *more,
    ]  # fmt: skip


def _start(grid, results):
    return subprocess.Popen(
        _command(grid, results), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _wait_for_cells(process, cells: Path, count):
    """Wait until `count` cells have begun and one of them is at work."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        runs = list(cells.glob("*/run.json"))
        if len(runs) >= count and any('"running"' in run.read_text() for run in runs):
            return
        time.sleep(0.02)
    pytest.fail(f"the grid did not get so far: {process.communicate()[0].decode()}")


def _ray_workers(driver):
    """Return the processes that compute cells for a driver."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"ray::run_cell") and driver in _ancestors(process):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _ancestors(process: Path):
    while process.name not in {"0", "1"}:
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        yield int(parent)
        process = Path("/proc") / parent


def _results(directory: Path):
    """Return all that a grid says, without times."""
    cells = pl.read_parquet(directory / "cells.parquet").drop("seconds")
    results = pl.read_parquet(directory / "results.parquet").filter(pl.col("metric") != "seconds")
    models = {cell: read_run(directory / "cells" / cell)["model_sha256"] for cell in cells["cell"]}
    return cells, results.sort("cell", "round", "metric"), models


def _assert_same(one: Path, other: Path):
    ours, theirs = _results(one), _results(other)
    assert ours[0].equals(theirs[0])
    assert ours[1].equals(theirs[1])
    assert ours[2] == theirs[2]


@pytest.mark.slow
def test_killed_drivers_and_workers_change_nothing(tmp_path, shared_cache):
    grid = _write_grid(tmp_path, shared_cache)
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(_command(grid, undisturbed), cwd=PROJECT, check=True, timeout=TIMEOUT_SECONDS)
    disturbed = tmp_path / "disturbed"

    driver = _start(grid, disturbed)
    _wait_for_cells(driver, disturbed / "g" / "cells", 2)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert not GridDirectory(disturbed / "g").is_driven

    driver = _start(grid, disturbed)
    _wait_for_cells(driver, disturbed / "g" / "cells", 3)
    while not (victims := _ray_workers(driver.pid)):  # between two cells nobody is at work
        assert driver.poll() is None
        time.sleep(0.02)
    os.kill(victims[0], signal.SIGKILL)
    output = driver.communicate(timeout=TIMEOUT_SECONDS)[0].decode()
    assert driver.returncode == 0, output
    assert "6 cells finished, 0 failed" in output

    _assert_same(undisturbed / "g", disturbed / "g")
    assert len(list((disturbed / "g" / "cells").iterdir())) == 6


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_and_a_changed_one_keeps_its_cells(tmp_path, shared_cache):
    grid = _write_grid(tmp_path, shared_cache)
    results = tmp_path / "results"
    driver = _start(grid, results)
    _wait_for_cells(driver, results / "g" / "cells", 2)
    driver.send_signal(signal.SIGINT)
    output = driver.communicate(timeout=TIMEOUT_SECONDS)[0].decode()
    assert driver.returncode == 130
    assert "interrupted: the same command goes on" in output
    subprocess.run(_command(grid, results), cwd=PROJECT, check=True, timeout=TIMEOUT_SECONDS)
    written = {run: run.stat().st_mtime_ns for run in (results / "g" / "cells").glob("*/run.json")}
    # two more cells, one of which fails; the others stay as they are
    grid = _write_grid(tmp_path, shared_cache, **{"privacy.epsilon": [2, 8, 1e-4], "run.seed": [0]})
    done = subprocess.run(
        _command(grid, results), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "3 finished already" in done.stderr
    assert "1 cells failed: eps0.0001-seed0-" in done.stderr
    assert all(run.stat().st_mtime_ns == time for run, time in written.items())
    cells = pl.read_parquet(results / "g" / "cells.parquet")
    assert cells["status"].to_list() == ["finished", "finished", "failed", "finished"]
    failed = read_run(results / "g" / cells["run"][2])
    assert failed["status"] == "failed"
    assert "privacy.epsilon" in str(failed["error"])


@pytest.mark.slow
def test_an_unreachable_cluster_is_one_error_at_once(tmp_path, shared_cache):
    grid = _write_grid(tmp_path, shared_cache)
    started = time.monotonic()
    done = subprocess.run(
        _command(grid, tmp_path / "r", "--ray-address", "127.0.0.1:9"),
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no Ray cluster answers at 127.0.0.1:9 (Connection refused)" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 60


@pytest.fixture
def cell(tmp_path, shared_cache):
    path = _write_grid(tmp_path, shared_cache)
    grid = expand(read_grid_file(path), path)
    directory = GridDirectory(tmp_path / "results" / "g")
    with directory.locked():
        return directory.config_to_run(grid.cells[0])


def test_a_cell_is_run_once(cell):
    assert worker.run_cell(cell.flat()).error is None
    path = Path(cell.run.results_dir) / cell.run.name
    record = read_run(path)
    assert (taken(record, "seconds") or 0) >= float(str(record["seconds"]))
    assert (taken(record, "peak_bytes") or 0) > 1e6
    before = (path / "run.json").stat().st_mtime_ns
    assert worker.run_cell(cell.flat()).error is None
    assert (path / "run.json").stat().st_mtime_ns == before


def test_a_cell_that_was_begun_goes_on_as_if_it_had_not_been_stopped(cell, tmp_path, monkeypatch):
    path = Path(cell.run.results_dir) / cell.run.name
    with interrupted_in(2, monkeypatch):
        worker.run_cell(cell.flat())
    assert worker.run_cell(cell.flat()).error is None
    (resumed,) = read_run(path)["resumed"]
    assert resumed["after_round"] == 1
    elsewhere = parse_config(cell.flat() | {"run.results-dir": str(tmp_path / "other" / "cells")})
    assert worker.run_cell(elsewhere.flat()).error is None
    undisturbed = tmp_path / "other" / "cells" / cell.run.name
    assert read_run(path)["model_sha256"] == read_run(undisturbed)["model_sha256"]
    ours, theirs = (
        pl.read_parquet(place / "rounds.parquet").drop("seconds") for place in (path, undisturbed)
    )
    assert ours.equals(theirs)


def test_a_failing_cell_is_recorded_even_before_its_run_begins(cell):
    broken = parse_config(cell.flat() | {"data.partitioner": "shards", "data.min-clips": 5000})
    outcome = worker.run_cell(broken.flat())
    assert outcome.error
    assert not outcome.stops_the_grid
    record = read_run(Path(cell.run.results_dir) / cell.run.name)
    assert record["status"] == "failed"
    assert str(record["error"]) == outcome.error


def test_a_damaged_record_fails_its_cell_and_is_left_as_it_is(cell):
    worker.record_failure(cell, "stopped")
    record = Path(cell.run.results_dir) / cell.run.name / "run.json"
    record.write_text(record.read_text().replace("stopped", "edited"))
    damaged = record.read_bytes()
    assert "is damaged or was edited" in str(worker.run_cell(cell.flat()).error)
    assert record.read_bytes() == damaged


def test_a_full_disk_stops_the_grid(cell, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_directory, "write_record", full)
    outcome = worker.run_cell(cell.flat())
    assert outcome.stops_the_grid
    assert "No space left on device" in str(outcome.error)


def test_an_error_that_came_of_a_full_disk_is_one():
    error = RunError("cannot write")
    assert not worker.no_room(error)
    error.__context__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as `from None` leaves it
    assert worker.no_room(error)
