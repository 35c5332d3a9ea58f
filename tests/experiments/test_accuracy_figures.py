"""Accuracy over budgets and over rounds is that of a grid's tables, a panel a setting."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drawn import legend, named, series, titles
from figures_grid import write_grid
from figures_made_up import write_run
from matplotlib.container import ErrorbarContainer

from experiments.figures.accuracy_epsilon import accuracy_against_epsilon
from experiments.figures.grid_tables import GridTables, read_grid
from experiments.figures.of_grid import of_grid


def test_accuracy_is_the_mean_with_its_interval_and_the_twin_its_own(grid: GridTables) -> None:
    (axes,) = accuracy_against_epsilon(grid.summary).draw().axes
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert {bar.get_label() for bar in bars} == {"C = 0.5", "C = 4"}
    rows = grid.summary.filter(pl.col("metric") == "accuracy")
    for bar in bars:
        of_bound = float(str(bar.get_label()).split("= ")[1])
        expected = rows.filter(pl.col("privacy.clip-norm") == of_bound).sort("privacy.epsilon")
        points = np.asarray(bar[0].get_xydata())
        np.testing.assert_allclose(points[:, 0], [1, 8])
        np.testing.assert_allclose(points[:, 1], expected["mean"])
        ends = np.array([segment[:, 1] for segment in bar[2][0].get_segments()])
        np.testing.assert_allclose(ends, expected.select("low", "high").to_numpy())
    twin = rows.filter(pl.col("is_twin")).row(0, named=True)
    np.testing.assert_allclose(series(axes, "no DP")[:, 1], twin["mean"])
    (band,) = [patch for patch in axes.patches if patch.get_alpha() == 0.15]
    box = band.get_path().get_extents(band.get_patch_transform())
    assert (box.y0, box.y1) == pytest.approx((twin["low"], twin["high"]))


def test_further_axes_make_panels_each_with_its_own_twin() -> None:
    keys = {
        "privacy.epsilon": [1.0, 8.0],
        "data.alpha": [0.1, 1.0],
        "coordination.selection": list("abc"),
    }
    rows = [
        {**dict(zip(keys, values, strict=True)), "is_twin": False, "mean": 0.5, "n": 3}
        for values in product(*keys.values())
    ]
    rows += [
        {"privacy.epsilon": None, "data.alpha": alpha, "coordination.selection": rule}
        | {"is_twin": True, "mean": 0.6 + 0.1 * alpha, "n": 3}
        for alpha, rule in product(keys["data.alpha"], "abc")
    ]
    summary = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        metric=pl.lit("accuracy"), low=pl.col("mean") - 0.1, high=pl.col("mean") + 0.1
    )
    figure = accuracy_against_epsilon(summary).draw()
    assert titles(figure) == [f"selection = {rule}" for rule in "abc"]
    for axes in figure.axes:
        twins = {
            round(float(one.get_ydata()[0]), 6) for one in axes.lines if "no DP" in one.get_label()
        }
        assert twins == {0.61, 0.7}


def test_keys_that_go_together_are_one_axis(grid: GridTables) -> None:
    together = (pl.col("privacy.clip-norm") * 2).alias("coordination.candidates")
    figure = accuracy_against_epsilon(grid.summary.with_columns(together)).draw()
    assert len(figure.axes) == 1


def test_panels_of_a_figure_share_their_scale(grid: GridTables) -> None:
    rule = pl.when(pl.col("privacy.clip-norm") == 4).then(pl.lit("a")).otherwise(pl.lit("b"))
    rows = grid.summary.with_columns(rule.alias("coordination.selection"))
    doubled = pl.concat([rows, rows.with_columns(pl.col("privacy.clip-norm") + 1)])
    limits = {axes.get_ylim() for axes in accuracy_against_epsilon(doubled).draw().axes}
    assert len(limits) == 1


def test_learning_curves_are_means_over_seeds_with_the_twin_in_every_panel(
    grid: GridTables,
) -> None:
    figure = named(of_grid(grid), "learning-curves")
    assert titles(figure) == ["C = 0.5", "C = 4"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    rows = grid.scan("rounds", ["round", "accuracy"])
    for axes, bound in zip(figure.axes, (0.5, 4.0), strict=True):
        chosen = {"ε = 8": rows.filter(level="ε = 8").filter(pl.col("privacy.clip-norm") == bound)}
        chosen["no DP"] = rows.filter("is_twin")
        for label, of_level in chosen.items():
            means = of_level.group_by("round").agg(pl.col("accuracy").mean()).sort("round")
            np.testing.assert_allclose(series(axes, label)[:, 1], means["accuracy"])


def test_a_grid_without_privacy_has_no_line_called_with_dp(tmp_path: Path) -> None:
    def make(path: Path, settings: Mapping[str, object]) -> None:
        write_run(path, {**settings, "privacy.mode": "none", "evaluation.shadow": False})

    axes = {"data.alpha": [0.1, 1.0]}
    root = write_grid(tmp_path / "bare", make, axes=axes, seeds=(0,), twins=False)
    figure = named(of_grid(read_grid(root)), "learning-curves")
    assert [legend(panel) for panel in figure.axes] == [["no DP"]] * 2
