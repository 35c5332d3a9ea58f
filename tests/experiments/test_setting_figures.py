"""Figures of a grid's settings: levels, heat maps, the Pareto front, and privacy spent."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from drawn import heading, named, panel, series
from matplotlib.container import ErrorbarContainer
from scipy import stats

from experiments.figures.catalogue import LeftOut
from experiments.figures.chance import expected_jaccard, overlap_band, tau_band
from experiments.figures.grid_tables import GridTables
from experiments.figures.heat_maps import heat_maps
from experiments.figures.of_grid import of_grid
from experiments.figures.pareto import non_dominated, objectives, pareto_front
from experiments.figures.settings import with_levels


def test_levels_run_from_the_strictest_to_none() -> None:
    table = pl.DataFrame({"is_twin": [True, False, False], "privacy.epsilon": [None, 8.0, 0.5]})
    levels = with_levels(table)
    assert levels.sort("level_order")["level"].to_list() == ["ε = 0.5", "ε = 8", "no DP"]
    noise = with_levels(pl.DataFrame({"is_twin": [False] * 2, "privacy.noise-multiplier": [1, 2]}))
    assert noise.sort("level_order")["level"].to_list() == ["σ = 2", "σ = 1"]
    modes = with_levels(pl.DataFrame({"is_twin": [False] * 2, "privacy.mode": ["none", "record"]}))
    assert modes["level"].to_list() == ["no DP", "with DP"]


def test_heat_maps_hold_the_summary_by_budget_and_bound(grid: GridTables) -> None:
    figure = heat_maps(grid.summary).draw()
    sources = {"rate shift": ("firing_rate", "difference"), "attenuation": ("attenuation", "mean")}
    sources |= {"Kendall": ("kendall_tau_shadow", "mean"), "Jaccard": ("jaccard_shadow", "mean")}
    for title, (metric, column) in sources.items():
        axes = panel(figure, title)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "8"]
        assert [text.get_text() for text in axes.get_yticklabels()] == ["4", "0.5"]
        shown = np.asarray(axes.collections[0].get_array()).reshape(2, 2)
        for (row, bound), (place, epsilon) in product(enumerate([4.0, 0.5]), enumerate([1.0, 8.0])):
            (value,) = grid.summary.filter(
                (pl.col("metric") == metric)
                & (pl.col("privacy.epsilon") == epsilon)
                & (pl.col("privacy.clip-norm") == bound)
            )[column]
            assert shown[row, place] == pytest.approx(value)
        texts = [text.get_text() for text in axes.texts]
        assert len(texts) == 4
        assert "-" not in "".join(texts)


def test_the_rate_shift_falls_back_on_the_shadows_without_twins(grid: GridTables) -> None:
    rows = grid.summary.filter(~pl.col("is_twin")).drop("difference")
    metric = pl.col("metric").replace("firing_rate", "rate_shift")
    figure = heat_maps(rows.with_columns(metric)).draw()
    shown = panel(figure, "rate shift").collections[0].get_array()
    expected = rows.filter(pl.col("metric") == "firing_rate")["mean"]
    np.testing.assert_allclose(np.sort(np.ravel(shown)), np.sort(expected))
    with_none = rows.filter(pl.col("metric") != "firing_rate")
    assert "Not measured: rate shift" in heading(heat_maps(with_none).draw())


def test_scales_of_heat_maps_are_fixed_and_chance_is_marked(grid: GridTables) -> None:
    figure = heat_maps(grid.summary, (6, 3)).draw()
    assert panel(figure, "Kendall τ").collections[0].get_clim() == (-1, 1)
    assert panel(figure, "rate shift").collections[0].get_clim() == (-0.05, 0.05)
    assert "random rankings, means of 3 runs, lie within ±0.40 (95 %)" in heading(figure)


def test_chance_is_that_of_random_permutations() -> None:
    draw = np.random.default_rng(0)
    taus = [stats.kendalltau(np.arange(12), draw.permutation(12)).statistic for _ in range(4000)]
    assert np.mean(np.abs(taus) <= tau_band(12)) == pytest.approx(0.95, abs=0.01)
    chosen = [set(draw.choice(12, 5, replace=False)) for _ in range(4000)]
    common = np.array([len(one & chosen[0]) for one in chosen])
    assert (common / (10 - common)).mean() == pytest.approx(expected_jaccard(12, 5), abs=0.01)
    low, high = overlap_band(12, 5)
    assert np.mean((common / 5 >= low) & (common / 5 <= high)) >= 0.95


def test_a_single_bound_is_no_heat_map(grid: GridTables) -> None:
    one = grid.summary.filter(pl.col("is_twin") | (pl.col("privacy.clip-norm") == 4))
    with pytest.raises(LeftOut, match="clip-norm has a single value"):
        heat_maps(one)


def test_the_pareto_front_is_what_a_comparison_of_all_pairs_leaves() -> None:
    costs = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(float)
    expected = [
        not any((other <= one).all() and (other < one).any() for other in costs) for one in costs
    ]
    np.testing.assert_array_equal(non_dominated(costs), expected)


def test_pareto_points_are_accuracy_and_energy_and_twins_have_no_budget(grid: GridTables) -> None:
    table = objectives(grid.summary)
    assert table.height == 5
    assert table.filter("is_twin")["epsilon"].to_list() == [float("inf")]
    spent = grid.summary.filter((pl.col("metric") == "epsilon_max") & ~pl.col("is_twin"))
    assert sorted(table.filter(~pl.col("is_twin"))["epsilon"]) == sorted(spent["mean"])
    (axes,) = pareto_front(grid.summary).draw().axes
    filled = [
        c[0]
        for c in axes.containers
        if isinstance(c, ErrorbarContainer) and c[0].get_markerfacecolor() != "white"
    ]
    assert sum(len(line.get_xdata()) for line in filled) == table["on_front"].sum()


def test_energies_that_do_not_differ_make_no_front(grid: GridTables) -> None:
    same = pl.when(metric="energy_nj").then(40.0 + pl.col("mean") / 1e3).otherwise(pl.col("mean"))
    with pytest.raises(LeftOut, match="same energy within 2 %"):
        pareto_front(grid.summary.with_columns(mean=same))


def test_privacy_spent_is_the_largest_of_a_level(grid: GridTables) -> None:
    axes = panel(named(of_grid(grid), "privacy-spent"), "Client that has spent most")
    np.testing.assert_allclose(series(axes, "ε = 8")[:, 1], 8 * np.arange(1, 7) / 6)
    budgets = {float(one.get_ydata()[0]) for one in axes.lines if one.get_linewidth() == 0.6}
    assert budgets == {1.0, 8.0}
