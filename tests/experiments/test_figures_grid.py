"""Which figures a grid has, why others are left out, and what is written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from figures_grid import AXES, write_grid
from figures_made_up import write_run

from experiments.figures import catalogue, draw, of_grid
from experiments.figures.audit_bounds import audit_bounds
from experiments.figures.catalogue import draw_all
from experiments.figures.draw import draw_directory
from experiments.figures.grid_tables import GridTables, read_grid
from experiments.figures.of_run import read_audit
from experiments.figures.style import FORMATS, WIDTH_INCHES, style
from fnl.errors import RunError


def test_an_audit_shows_which_claim_its_bound_refutes(made_up_grid: Path) -> None:
    (axes,) = audit_bounds(read_audit(made_up_grid)).draw().axes
    refuting = [one for one in axes.lines if one.get_marker() == "X"]
    assert [tuple(one.get_xydata()[0]) for one in refuting] == [(11.5, 1.0)]
    claims = [float(one.get_xdata()[0]) for one in axes.lines if one.get_marker() == "|"]
    assert claims == [8.0, 8.0, 4.0]


def test_what_is_absent_is_left_out_with_its_reason(tmp_path: Path) -> None:
    def bare(path: Path, settings: Mapping[str, object]) -> None:
        write_run(path, {**settings, "evaluation.shadow": False})

    axes = {"privacy.clip-norm": [1.0, 2.0]}
    root = write_grid(tmp_path / "bare", bare, axes=axes, seeds=(0,), twins=False)
    drawn, gaps = draw_all(of_grid.of_grid(read_grid(root)))
    assert {one.name for one in drawn} == {"ranks", "privacy-spent", "learning-curves"}
    reasons = {gap.name: gap.reason for gap in gaps}
    assert reasons["accuracy-epsilon"] == "the grid's summary has no privacy.epsilon"
    assert "no value of predicted_rate_shift" in reasons["predicted-shift"]
    assert reasons["audit"] == "no audit was run: there is no audit.parquet"
    assert "not cached" in reasons["selection-shares"]
    assert "all rates are of with DP" in reasons["rate-distributions"]


@pytest.mark.parametrize("columns", [1, 2])
def test_nothing_runs_off_the_page(
    grid: GridTables, columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "COLUMNS", (columns,))
    drawn, gaps = draw_all(of_grid.of_grid(grid), grid.describe())
    assert [gap.name for gap in gaps] == ["selection-shares"]
    for one in drawn:
        figure = one.figures[columns]
        assert figure.get_figwidth() == WIDTH_INCHES[columns]
        with style():
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
        edge = 0.02  # an inch's share that antialiasing may use
        assert box.x0 >= -edge, one.name
        assert box.y0 >= -edge, one.name
        assert box.x1 <= figure.get_figwidth() + edge, one.name
        assert box.y1 <= figure.get_figheight() + edge, one.name


def test_cells_that_failed_are_not_drawn(made_up_grid: Path, tmp_path: Path) -> None:
    for path in made_up_grid.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cells.parquet").unlink()
    cells = pl.read_parquet(made_up_grid / "cells.parquet")
    failed = pl.when(pl.col("cell") == "c0-0").then(pl.lit("failed")).otherwise("status")
    cells.with_columns(status=failed).write_parquet(tmp_path / "cells.parquet")
    grid = read_grid(tmp_path)
    assert "c0-0" not in grid.scan("rounds", ["round"])["cell"]
    assert "14 of 15 cells" in grid.describe()[0]


def test_all_formats_of_both_widths_are_written(
    made_up_grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the first three and the last, which is left out: writing takes as long for each
    monkeypatch.setattr(
        draw, "of_grid", lambda grid: [*of_grid.of_grid(grid)[:3], *of_grid.of_grid(grid)[-1:]]
    )
    few = read_grid(made_up_grid).summary.filter(pl.col("metric") == "accuracy")
    assert few.height == 5
    axes = {"privacy.epsilon": [1.0]}
    root = write_grid(tmp_path / "small", write_run, axes=axes, seeds=(0,), twins=False)
    (root / "summary.parquet").unlink()
    few.drop("level", "level_order").write_parquet(root / "summary.parquet")
    paths, gaps = draw_directory(root, tmp_path / "figures")
    names = {path.stem for path in paths}
    assert "accuracy-epsilon" in names
    assert names == {n for n in names if n.endswith("-one-column")} | {
        n.removesuffix("-one-column") for n in names
    }
    assert {path.suffix[1:] for path in paths} == set(FORMATS)
    assert len(paths) == 3 * len(names)
    assert names.isdisjoint(gap.name for gap in gaps)
    assert "audit" in {gap.name for gap in gaps}
    pdf = (tmp_path / "figures" / "accuracy-epsilon.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "summary.parquet").unlink(), "has no summary.parquet yet: `fnl grid"),
        (lambda path: (path / "cells.parquet").write_text("x"), "cannot read the table"),
        (
            lambda path: pl.DataFrame({"cell": ["a"]}).write_parquet(path / "results.parquet"),
            "has no column 'seed'",
        ),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(
    made_up_grid: Path, tmp_path: Path, damage, message: str
) -> None:
    for name in ("cells", "results", "summary"):
        source = made_up_grid / f"{name}.parquet"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    damage(tmp_path)
    with pytest.raises(RunError, match=message) as error:
        draw_directory(tmp_path, tmp_path / "figures")
    assert "\n" not in str(error.value)


def test_axes_of_the_written_grid(grid: GridTables) -> None:
    assert grid.axes == tuple(AXES)
