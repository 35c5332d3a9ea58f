"""Figures and reports of runs that were really run, and the commands that make them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drawn import legend
from figures_grid import write_grid
from matplotlib.figure import Figure

from experiments.figures.catalogue import draw_all
from experiments.figures.of_grid import of_grid
from experiments.figures.style import Sheet
from experiments.report import build
from experiments.report.page import Report
from fnl.cli.report import figures, report
from fnl.config import parse_config
from fnl.data.describe import count_column, describe
from fnl.data.federated import prepare
from fnl.runtime.in_process import run_in_process

pytestmark = pytest.mark.slow


def make_run(flat: Mapping[str, object]) -> None:
    config = parse_config(flat)
    prepare(config)
    run_in_process(config, notify=lambda _: None)


def make_cell(flat: Mapping[str, object], path: Path, settings: Mapping[str, object]) -> None:
    """Run `flat` with these settings in the directory `path`."""
    make_run({**flat, **settings, "run.name": path.name, "run.results-dir": str(path.parent)})


UNEVEN = {"data.partitioner": "dirichlet", "data.alpha": 0.5}
"""Labels that clients differ in, so that there is a map of them."""


@pytest.fixture
def grid_directory(tmp_path: Path, small_config: dict) -> Path:
    """A grid of two real cells and their twin."""
    make = partial(make_cell, {**small_config, **UNEVEN})
    return write_grid(tmp_path / "grid", make, axes={"privacy.epsilon": [2.0, 8.0]}, seeds=(0,))


def test_a_real_grid_and_its_cells_have_figures_findings_and_a_written_report(
    grid_directory: Path, small_config: dict, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    page = build.report_of_grid(grid_directory)
    drawn = {one.name for one in page.figures}
    wanted = {
        "accuracy-epsilon",
        "learning-curves",
        "rate-distributions",
        "ranks",
        "selection-shares",
    }
    assert wanted | {"sparsity-memory", "privacy-spent"} <= drawn
    assert {"heat-maps", "audit"} <= {gap.name for gap in page.gaps}
    assert page.status == "3 of 3 cells finished"
    assert page.guarantee["Guarantee"][0].startswith("the training steps of each client")

    path = grid_directory / "cells" / "c0-0"
    cells: list[Report] = []
    render = build.render
    monkeypatch.setattr(build, "render", lambda made: cells.append(made) or render(made))
    report(path, None)
    assert capsys.readouterr().out.strip() == f"report {path / 'report.html'}"
    assert (path / "report.html").stat().st_size > 100_000
    (cell,) = cells
    assert {"selection-shares", "ranks", "rate-distributions"} <= {f.name for f in cell.figures}
    assert {"Accuracy", "Rate shift", "Privacy spent"} <= {f.name for f in cell.findings}
    differing = {key for key, _, differs in cell.configuration if differs}
    assert differing >= {"privacy.epsilon", "data.clients", "evaluation.shadow"}

    federation = prepare(parse_config({**small_config, **UNEVEN}))
    held = describe(federation.store.clips, federation.store.labels, federation.partitioning)
    (figure,) = (one.figures[2] for one in cell.figures if one.name == "selection-shares")
    order = [int(text.get_text()) for text in figure.axes[0].get_yticklabels()]
    counts = held.select(count_column(label) for label in federation.store.labels).to_numpy()
    expected = (counts / counts.sum(axis=1, keepdims=True))[order]
    shown = np.reshape(figure.axes[1].collections[0].get_array(), expected.shape)
    np.testing.assert_allclose(shown, expected)


def test_the_command_says_what_it_draws_and_what_it_leaves_out(
    tmp_path: Path, small_config: dict, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    make_run({**small_config, "run.name": "one"})
    path = tmp_path / "results" / "one"
    saved: list[str] = []
    monkeypatch.setattr(Sheet, "draw", lambda *_: Figure())
    monkeypatch.setattr(
        "experiments.figures.draw.save_all",
        lambda drawn, folder: [folder / one.name for one in drawn if not saved.append(one.name)],
    )
    figures(path, tmp_path / "figures")
    lines = capsys.readouterr().out.splitlines()
    (drawn,) = [line for line in lines if line.startswith("figures in ")]
    assert drawn.split(": ")[-1].split(", ") == saved
    assert "ranks" in saved
    assert "left out audit: no audit was run: there is no audit.parquet" in lines


def test_a_grid_without_twins_shows_shadows_instead(tmp_path: Path, small_config: dict) -> None:
    axes, make = {"privacy.epsilon": [8.0]}, partial(make_cell, small_config)
    root = write_grid(tmp_path / "grid", make, axes=axes, seeds=(0,), twins=False)
    grid = build.read_grid(root)
    drawn, _ = draw_all(of_grid(grid))
    (figure,) = (one.figures[2] for one in drawn if one.name == "rate-distributions")
    assert legend(figure.axes[0]) == ["ε = 8", "no DP"]
    layers = pl.read_parquet(root / "cells" / "c0-0" / "layers.parquet")
    last = layers.filter((pl.col("round") == 2) & pl.col("partition").is_not_null())
    medians = [one.get_ydata()[0] for one in figure.axes[0].lines if one.get_linewidth() == 1.4]
    expected = [
        last.filter(pl.col("layer") == layer)[column].median()
        for column in ("firing_rate", "firing_rate_shadow")
        for layer in (0, 1)
    ]
    assert medians == pytest.approx(expected)
