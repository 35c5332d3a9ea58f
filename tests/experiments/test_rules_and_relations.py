"""Rules against chance and what moves with the shift: made-up grids, statistics against SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments import relations, rules
from experiments.figures.grid_tables import GridTables, read_grid
from fnl.errors import RunError

SEEDS = 5
RULES = ("random", "loss", "update-norm")


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GridTables:
    """Three rules, five seeds, six rounds; `loss` is a tenth better, `update-norm` as chance."""
    draws = np.random.default_rng(0)
    rows = [
        {"seed": seed, rules.RULE: rule, "round": number, "accuracy": accuracy}
        for seed in range(SEEDS)
        for rule in RULES
        for number, accuracy in enumerate(
            0.3 + 0.1 * (rule == "loss") + 0.02 * seed + draws.normal(0, 0.01, size=6)
        )
    ]
    cells = pl.DataFrame({rules.RULE: RULES})
    empty = pl.DataFrame()
    tables = GridTables(tmp_path, cells, empty.lazy(), empty, None, {})
    monkeypatch.setattr(GridTables, "scan", lambda *_: pl.DataFrame(rows))
    return tables


def test_rules_are_compared_within_seeds_over_the_last_rounds(grid):
    ((title, table),) = rules.compared(grid, last=3)
    assert title == ""
    assert table["rule"].to_list() == ["loss", "update-norm"]
    rows = grid.scan("rounds", []).filter(pl.col("round") > 2)
    means = rows.group_by("seed", rules.RULE).agg(pl.col("accuracy").mean())
    of = {rule: means.filter(pl.col(rules.RULE) == rule).sort("seed")["accuracy"] for rule in RULES}
    test: Any = stats.ttest_rel(of["loss"].to_numpy(), of["random"].to_numpy())
    row = table.row(0, named=True)
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["difference"] - row["half"] == pytest.approx(test.confidence_interval().low)
    assert row["p_holm"] == pytest.approx(min(1, 2 * row["p"]))
    assert rules.markdown(table).splitlines()[2].startswith("| `loss` | 5 |")


def test_the_detectable_difference_is_found_four_times_of_five():
    draws = np.random.default_rng(0)
    known = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    shift = rules.detectable(known)
    samples = draws.normal(shift, known.std(ddof=1), size=(4000, len(known)))
    test: Any = stats.ttest_1samp(samples, 0.0, axis=1)
    found = np.mean(test.pvalue < 0.05)
    assert 0.72 < found < 0.9
    assert rules.detectable(np.array([1.0])) == float("inf")


def test_a_grid_without_rules_or_chance_is_refused(grid, made_up_grid):
    with pytest.raises(RunError, match="does not vary"):
        rules.compared(read_grid(made_up_grid), last=2)
    only = grid.scan("rounds", []).filter(pl.col(rules.RULE) != "random")
    with pytest.raises(RunError, match="to compare with"):
        rules._rules(only)


@pytest.mark.slow
def test_relations_are_of_differences_from_twins_and_hold_settings_together(made_up_grid):
    grid = read_grid(made_up_grid)
    table = relations.differences(grid)
    private = grid.finished.filter(~pl.col("is_twin"))
    assert table.height == private.height
    assert table["setting"].n_unique() == private.select(grid.axes).n_unique()
    draws = np.random.default_rng(0)
    shift = draws.normal(size=40)
    made = pl.DataFrame(
        {"setting": np.repeat(np.arange(20), 2).astype(str), relations.SHIFT: shift}
        | {name: draws.normal(size=40) for name in relations.INDICATORS}
    ).with_columns(
        energy_nj=3 * pl.col(relations.SHIFT) + 1, silent_fraction=-pl.col(relations.SHIFT)
    )
    found = {row["indicator"]: row for row in relations.relations(made).iter_rows(named=True)}
    assert found["energy of a clip"]["rho"] == pytest.approx(1)
    assert found["silent neurons"]["high"] == pytest.approx(-1)
    chance = found["saturated neurons"]
    assert chance["low"] < 0 < chance["high"]
    assert "| energy of a clip | 40 | 1.00" in relations.markdown(relations.relations(made))
