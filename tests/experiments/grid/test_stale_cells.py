"""A grid never takes the results of one code for those of another."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from experiments.grid import worker
from experiments.grid.directory import GridDirectory
from experiments.grid.driver import check_grid
from experiments.grid.stale import stale_cells
from fnl.config import parse_config
from fnl.runtime.run_directory import read_run
from tests.conftest import SMALL
from tests.grid_files import write_grid_file
from tests.runs import fnl

RULE = "def best(reports, context):\n    return [{sign} * r.partition for r in reports]\n"
SHORT = {
    "run.rounds": 1, "evaluation.shadow": False, "model.hidden": "8", "data.mel-bins": 8,
    "data.frame-hop-ms": 50, "privacy.mode": "none",
    "coordination.selection": "rule_of_grid:best", "coordination.aggregation": "fedavg",
}  # fmt: skip


@pytest.fixture
def file(tmp_path, shared_cache, monkeypatch):
    """A grid file of two cells with a rule of one's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "rule_of_grid.py").write_text(RULE.format(sign=1))
    base = SMALL | SHORT | {"data.cache-dir": str(shared_cache)}
    yield write_grid_file(tmp_path / "g.toml", base, {"run.seed": [0, 1]})
    sys.modules.pop("rule_of_grid", None)


def _checked(file: Path, **options):
    console = Console(record=True, width=400, file=io.StringIO())
    work = check_grid(file, {}, file.parent / "results", console, **options)
    return work.grid, work.directory, work.finished, console.export_text()


def _run(file: Path, **options) -> GridDirectory:
    grid, directory, *_ = _checked(file, **options)
    for cell in grid.cells:
        config = directory.config_to_run(cell)
        assert worker.run_cell(config.flat(), **options).error is None
    return directory


def _flip(file: Path) -> None:
    (file.parent / "rule_of_grid.py").write_text(RULE.format(sign=-1))
    sys.modules.pop("rule_of_grid", None)  # a new `fnl grid run` is a new process


def _selected(directory: GridDirectory) -> list[object]:
    return [read_run(run)["model_sha256"] for run in sorted(directory.cells.iterdir())]


def test_a_sign_flipped_in_a_rule_is_seen_and_the_cells_are_run_again(file):
    before = _selected(_run(file))
    assert len(_checked(file)[2]) == 2  # nothing changed, nothing to do
    _flip(file)
    _, _, known, said = _checked(file)
    assert not known
    assert "0 finished already" in said
    assert (
        "2 cells were made by other code (rule_of_grid.py changed): they are run again; "
        "--keep-stale keeps them" in said
    )
    directory = _run(file)
    after = _selected(directory)
    assert not set(before) & set(after)
    replaced = sorted((directory.path / "replaced").iterdir())
    assert [read_run(run)["model_sha256"] for run in replaced] == before
    assert len(_checked(file)[2]) == 2


def test_keep_stale_keeps_what_is_finished(file):
    before = _selected(_run(file))
    _flip(file)
    grid, directory, known, said = _checked(file, keep_stale=True)
    assert len(known) == 2
    assert "they are kept" in said
    for cell in grid.cells:
        flat = directory.config_to_run(cell).flat()
        assert worker.run_cell(flat, keep_stale=True).error is None
    assert _selected(directory) == before
    stale = stale_cells((cell.id, directory.record(cell.id)) for cell in grid.cells)
    assert set(stale) == {cell.id for cell in grid.cells}


def test_keep_stale_goes_on_with_what_was_begun_and_says_so(file):
    grid, directory, *_ = _checked(file)
    config = directory.config_to_run(grid.cells[0])
    worker.record_failure(parse_config(config.flat()), "stopped")
    _flip(file)
    assert worker.run_cell(config.flat(), keep_stale=True).error is None
    record = read_run(directory.cells / grid.cells[0].id)
    assert record["status"] == "finished"
    assert "'changes': ['rule_of_grid.py changed']" in str(record["resumed"])


@pytest.mark.slow
def test_the_commands_do_so(file):
    command = ("grid", "run", str(file), "--workers", "2")
    first = fnl(*command, cwd=file.parent)
    assert "2 cells finished, 0 failed" in first.stdout, first.stderr
    directory = GridDirectory(file.parent / "results" / "g")
    before = _selected(directory)
    _flip(file)
    status = fnl("grid", "status", str(directory.path), cwd=file.parent)
    assert "finished, stale" in status.stdout
    assert "made by other code (rule_of_grid.py changed)" in status.stdout
    again = fnl(*command, cwd=file.parent)
    assert "2 cells finished, 0 failed" in again.stdout, again.stderr
    assert "run again" in again.stderr
    assert not set(before) & set(_selected(directory))
    report = fnl("report", str(directory.path), cwd=file.parent)
    assert report.returncode == 0, report.stderr
    page = (directory.path / "report.html").read_text()
    assert "rule_of_grid.py" in page
    assert "-1 * r.partition" in page
