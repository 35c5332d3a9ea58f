"""Figures of the clients and layers of a grid's cells."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from drawn import heading, legend, named
from figures_made_up import SELECTED

from experiments.figures.grid_tables import GridTables
from experiments.figures.of_grid import indicators, of_grid
from experiments.figures.selection_shares import selection_shares


def test_rates_by_layer_are_boxes_of_the_last_round(grid: GridTables) -> None:
    (axes,) = named(of_grid(grid), "rate-distributions").axes
    assert legend(axes) == ["ε = 1", "ε = 8", "no DP"]
    rows = grid.scan("layers", ["round", "layer", "partition", "firing_rate"]).filter(
        pl.col("partition").is_not_null() & (pl.col("round") == pl.col("round").max())
    )
    expected = [
        rows.filter((pl.col("level") == level) & (pl.col("layer") == layer))["firing_rate"].median()
        for level in ("ε = 1", "ε = 8", "no DP")
        for layer in (0, 1)
    ]
    medians = [one.get_ydata()[0] for one in axes.lines if one.get_linewidth() == 1.4]
    np.testing.assert_allclose(medians, expected)
    assert len({box.get_hatch() for box in axes.patches}) == 3


def test_ranks_are_the_tables_with_nothing_where_not_asked(grid: GridTables) -> None:
    figure = named(of_grid(grid), "ranks")
    maps = figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in maps] == [
        "ε = 1, C 0.5, seed 0",
        "no DP, seed 0",
    ]
    run = pl.read_parquet(grid.directory / "cells" / "c0-0" / "clients.parquet")
    drawn = maps[0].collections[0].get_array()
    clients = [int(label.get_text()) for label in maps[0].get_yticklabels()]
    found = {
        (round_, client, int(drawn[row, round_ - 1]))
        for row, client in enumerate(clients)
        for round_ in range(1, drawn.shape[1] + 1)
        if not np.ma.is_masked(drawn[row, round_ - 1])
    }
    assert found == set(run.select("round", "partition", "rank").iter_rows())
    assert drawn.mask.any()
    assert [int(label.get_text()) for label in maps[1].get_yticklabels()] == clients
    colours = [axes.collections[0].get_cmap() for axes in maps]
    middle = [axes.collections[0].norm(SELECTED + 0.5) for axes in maps]
    assert (colours[0].name, middle) == (colours[1].name, [0.5, 0.5])
    means = run.group_by("partition").agg(pl.col("rank").mean()).sort("rank", "partition")
    assert clients == means["partition"].to_list()


def test_the_shift_is_against_the_twin_of_the_same_seed(grid: GridTables) -> None:
    table = indicators(grid)
    assert table.height == 12
    for cell, shift in table.select("cell", "rate_shift").iter_rows():
        twin = f"twin-{cell[-1]}"
        own, other = (
            pl.read_parquet(grid.directory / "cells" / name / "rounds.parquet")["firing_rate"][-1]
            for name in (cell, twin)
        )
        assert shift == pytest.approx(own - other)
    figure = named(of_grid(grid), "sparsity-memory")
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert {"silent neurons (share)", "membrane autocorrelation (lag 1)"} <= labels
    assert "activation sparsity" not in labels  # it is 1 − the rate
    assert "saturated neurons (share)" not in labels  # it does not vary


def test_predictions_have_the_correlation_of_numpy(grid: GridTables) -> None:
    figure = named(of_grid(grid), "predicted-shift")
    names = ["firing_rate_after", "firing_rate_shadow", "predicted_rate_shift"]
    rows = grid.scan("clients", names).drop_nulls(names)
    measured = rows["firing_rate_after"] - rows["firing_rate_shadow"]
    r = np.corrcoef(rows["predicted_rate_shift"], measured)[0, 1]
    assert f"{rows.height} candidates: Pearson r = {r:.2f}" in heading(figure)


def test_clients_are_ordered_by_how_often_they_were_selected() -> None:
    clients = pl.DataFrame(
        {"round": [1, 1, 2, 2], "partition": [0, 2, 0, 2], "selected": [False, True, True, True]}
    )
    counts = pl.DataFrame({"partition": [0, 1, 2], "yes": [3, 1, 0], "no": [1, 1, 4]})
    bars, labels, _ = selection_shares(clients, counts).draw().axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["2", "0", "1"]
    assert [bar.get_width() for bar in bars.patches] == [1.0, 0.5, 0.0]
    shares = np.asarray(labels.collections[0].get_array()).reshape(3, 2)
    np.testing.assert_allclose(shares, [[0, 1], [0.75, 0.25], [0.5, 0.5]])
    assert [text.get_text() for text in bars.texts] == ["of 2", "of 2", "–"]


def test_labels_that_all_hold_evenly_are_no_map_but_a_sentence() -> None:
    clients = pl.DataFrame({"round": 1, "partition": [0, 1], "selected": [True, False]})
    counts = pl.DataFrame({"partition": [0, 1], "yes": [50, 46], "no": [50, 54]})
    even = selection_shares(clients, counts).draw()
    assert len(even.axes) == 1
    assert "each 46 to 54 % of its clips" in heading(even)
    skewed = selection_shares(clients, counts.with_columns(no=pl.Series([50, 70]))).draw()
    assert len(skewed.axes) == 3
    assert "evenly" not in heading(skewed)


def test_thousands_of_clients_are_drawn_as_few_shapes() -> None:
    many = 2_500  # two or three to a row
    clients = pl.DataFrame({"round": 1, "partition": range(many)}).with_columns(
        selected=pl.col("partition") < many // 2
    )
    counts = pl.DataFrame({"partition": range(many), "yes": 1, "no": 3})
    bars, labels, _ = selection_shares(clients, counts).draw().axes
    assert [len(bars.patches), len(labels.collections)] == [1, 1]
    values = bars.patches[0].get_data().values
    np.testing.assert_allclose(values, np.repeat([1.0, 0.0], 500))
    np.testing.assert_allclose(labels.collections[0].get_array().reshape(1000, 2)[:, 0], 0.25)
    names = [int(text.get_text()) for text in labels.get_yticklabels()]
    np.testing.assert_allclose(labels.get_yticks() - 0.5, np.array(names) * 1000 / many)
