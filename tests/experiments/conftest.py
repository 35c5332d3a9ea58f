"""Shared by the tests of figures and reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures_grid import write_grid
from figures_made_up import write_audit, write_run

from experiments.report.build import report_of_grid, report_of_run
from experiments.report.page import Report, render


@pytest.fixture(scope="session")
def made_up_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of 2 ε by 2 C, two seeds and their twins, of made-up runs; read only."""
    root = tmp_path_factory.mktemp("grids") / "made-up"
    write_grid(root, lambda name, settings: write_run(root / "cells" / name, settings))
    write_audit(root)
    return root


@pytest.fixture(scope="session")
def made_up_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with an audit; read only."""
    path = write_run(tmp_path_factory.mktemp("runs") / "one", {"privacy.epsilon": 2.0})
    write_audit(path)
    return path


@pytest.fixture(scope="session")
def reports(made_up_run: Path, made_up_grid: Path) -> dict[str, Report]:
    """The reports of both."""
    return {"run": report_of_run(made_up_run), "grid": report_of_grid(made_up_grid)}


@pytest.fixture(scope="session")
def report_pages(reports: dict[str, Report]) -> dict[str, str]:
    """Their pages."""
    return {kind: render(report) for kind, report in reports.items()}
