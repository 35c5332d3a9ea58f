"""Trends over a grid's key: statistics against SciPy, values against the tables they come from."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments.figures.grid_tables import read_grid
from experiments.trends import MEASURES, main, markdown, measured, trend
from fnl.errors import RunError

EPSILONS, BOUNDS, SEEDS = (1.0, 4.0, 8.0), (1.0, 5.0), (0, 1, 2, 3)
_TWIN = "accuracy − twin"


@pytest.fixture
def values() -> pl.DataFrame:
    """Every measure by chance, of 3 ε by 2 C and four seeds."""
    draw = np.random.default_rng(0)
    cells = list(product(EPSILONS, BOUNDS, SEEDS))
    columns = {name: draw.normal(size=len(cells)) for name in (*MEASURES, _TWIN)}
    frame = pl.DataFrame(
        {
            "privacy.epsilon": [cell[0] for cell in cells],
            "privacy.clip-norm": [cell[1] for cell in cells],
            "seed": [cell[2] for cell in cells],
            **columns,
        }
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=1)


def test_levels_and_slopes_are_those_of_scipy_over_seeds(values):
    rows = {row["measure"]: row for row in trend(values, "privacy.epsilon").iter_rows(named=True)}
    assert set(rows) == {*MEASURES, _TWIN}
    row, slopes = rows["attenuation"], []
    assert row["levels"] == list(EPSILONS)
    for seed in SEEDS:
        of_seed = values.filter(seed=seed)
        means = [
            of_seed.filter(pl.col("privacy.epsilon") == e)["attenuation"].mean() for e in EPSILONS
        ]
        fitted: Any = stats.linregress(np.log2(EPSILONS), means)
        slopes.append(fitted.slope)
    test: Any = stats.ttest_1samp(slopes, 0.0)  # SciPy's is untyped
    assert row["p"] == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert row["slope"] - row["slope_half"] == pytest.approx(interval.low)
    assert row["slope"] + row["slope_half"] == pytest.approx(interval.high)
    at_four = values.filter(pl.col("privacy.epsilon") == 4.0)
    assert row["means"][1] == pytest.approx(at_four["attenuation"].mean())
    text = markdown(trend(values, "privacy.clip-norm"), "privacy.clip-norm")
    assert text.splitlines()[0] == "| `privacy.clip-norm` | 1 | 5 | slope a doubling | p |"
    assert len(text.splitlines()) == 2 + len(rows)


def test_cells_of_a_grid_are_measured_by_their_rounds_and_twins(made_up_grid: Path):
    grid = read_grid(made_up_grid)
    table = measured(grid, ("privacy.epsilon", "privacy.clip-norm"))
    assert table.height == 12
    row = table.row(3, named=True)
    path = {cell: made_up_grid / run for cell, run in grid.cells.select("cell", "run").iter_rows()}
    rounds = pl.read_parquet(path[row["cell"]] / "rounds.parquet").filter(pl.col("round") > 0)
    assert row["attenuation"] == pytest.approx(rounds["attenuation"].mean())
    assert row["accuracy"] == rounds.sort("round")["accuracy"][-1]
    twin = pl.read_parquet(path[row["twin"]] / "rounds.parquet").sort("round")
    assert row[_TWIN] == pytest.approx(row["accuracy"] - twin["accuracy"][-1])


def test_the_command_prints_a_table_a_key_and_names_what_is_no_axis(made_up_grid: Path, capsys):
    assert main([str(made_up_grid)]) == 0
    assert capsys.readouterr().out.count("slope a doubling") == 2
    assert main([str(made_up_grid), "--along", "data.alpha"]) == 1
    assert "data.alpha is no axis" in capsys.readouterr().err


def test_a_level_without_all_seeds_is_refused(values):
    with pytest.raises(RunError, match="every seed"):
        trend(
            values.filter((pl.col("seed") > 0) | (pl.col("privacy.epsilon") > 1)), "privacy.epsilon"
        )
