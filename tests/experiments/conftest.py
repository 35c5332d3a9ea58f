"""Shared by the tests of figures and reports."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from figures_grid import write_grid
from figures_made_up import write_audit, write_run
from filelock import FileLock

from experiments.figures.grid_tables import GridTables, read_grid
from experiments.report.build import report_of_grid, report_of_run
from experiments.report.page import render


@pytest.fixture(scope="session")
def made_up_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of 2 ε by 2 C, three seeds and their twins, of made-up runs; read only."""
    root = tmp_path_factory.mktemp("grids") / "made-up"
    write_grid(root, write_run)
    write_audit(root)
    return root


@pytest.fixture
def grid(made_up_grid: Path) -> GridTables:
    """The tables of the made-up grid."""
    return read_grid(made_up_grid)


@pytest.fixture(scope="session")
def made_up_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with an audit; read only."""
    path = write_run(tmp_path_factory.mktemp("runs") / "one", {"privacy.epsilon": 2.0})
    write_audit(path)
    return path


@pytest.fixture(scope="session")
def report_page(
    made_up_run: Path, made_up_grid: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """The page of the "run" or of the "grid", drawn once for all test processes."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    reports = {
        "run": lambda: report_of_run(made_up_run),
        "grid": lambda: report_of_grid(made_up_grid),
    }

    def page(kind: str) -> str:
        path = shared / f"report-of-{kind}.html"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_text(render(reports[kind]()), encoding="utf-8")
        return path.read_text(encoding="utf-8")

    return page
