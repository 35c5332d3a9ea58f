"""What liars gain and cost is what a run's and a grid's tables say, on the page and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from figures_grid import write_grid
from figures_made_up import write_run
from scipy import stats

from experiments.figures import liars
from experiments.figures.catalogue import LeftOut
from experiments.figures.grid_tables import GridTables, read_grid
from experiments.figures.liars import damage, liars_of_grid, liars_of_run, shares_of
from experiments.figures.run_tables import read_tables
from experiments.report.build import report_of_grid, report_of_run
from experiments.report.lying import section_of_grid
from experiments.report.page import render

LIAR = 1
WITHOUT: dict[str, Any] = {"privacy.mode": "none", "evaluation.shadow": False}
COST = {1.0: (0.04, 0.06, 0.08), 0.5: (0.0, 0.01, -0.01)}
"""Accuracy that the liar takes, by cap and seed."""


def write_lying(path: Path, settings: Mapping[str, Any]) -> Path:
    """Write a run in which partition 1, if it lies, is selected as often as the cap lets it."""
    write_run(path, {**WITHOUT, **settings})
    if not settings.get("coordination.liars"):
        return path
    cap = settings.get("coordination.max-share", 1.0)
    clients = pl.read_parquet(path / "clients.parquet")
    of_liar = pl.col("partition") == LIAR
    turn = of_liar.cum_sum()
    chosen = pl.when(of_liar).then(turn * cap == (turn * cap).floor()).otherwise("selected")
    clients.with_columns(selected=chosen, weight=0.25).write_parquet(path / "clients.parquet")
    rounds = pl.read_parquet(path / "rounds.parquet")
    less = pl.col("accuracy") - COST[cap][settings.get("run.seed", 0)]
    rounds.with_columns(accuracy=less).write_parquet(path / "rounds.parquet")
    return path


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridTables:
    root = tmp_path_factory.mktemp("grids") / "liar"
    axes = {"coordination.max-share": [1.0, 0.5], "coordination.liars": ["", "1"]}
    return read_grid(write_grid(root, write_lying, axes=axes, seeds=(0, 1, 2), twins=False))


def clients_of(grid: GridTables, cap: float, liars: str) -> list[pl.DataFrame]:
    cells = grid.cells.filter(
        pl.col("coordination.max-share") == cap, pl.col("coordination.liars") == liars
    )
    return [pl.read_parquet(grid.directory / run / "clients.parquet") for run in cells["run"]]


@pytest.mark.parametrize("cap", [1.0, 0.5])
def test_shares_are_of_the_rounds_in_which_a_client_answered(grid: GridTables, cap: float) -> None:
    (row,) = damage(grid).filter(pl.col("coordination.max-share") == cap).to_dicts()
    lying, honest = clients_of(grid, cap, "1"), clients_of(grid, cap, "")
    is_liar = pl.col("partition") == LIAR
    expected = {
        "share": [one.filter(is_liar)["selected"].mean() for one in lying],
        "share_honest": [one.filter(~is_liar)["selected"].mean() for one in lying],
        "share_before": [one.filter(is_liar)["selected"].mean() for one in honest],
        "chance": [one["selected"].mean() for one in lying],
    }
    for name, values in expected.items():
        assert row[name] == pytest.approx(np.mean(np.array(values, np.float64)))
    assert (row["share"] == 1.0) == (cap == 1.0)
    assert row["cap"] == (None if cap == 1.0 else cap)


def test_damage_is_the_paired_difference_from_the_runs_without_a_liar(grid: GridTables) -> None:
    rows = {row["cap"]: row for row in damage(grid).to_dicts()}
    free, capped = rows[None], rows[0.5]
    costs = -np.array(COST[1.0])
    low, high = stats.t.interval(0.95, 2, costs.mean(), stats.sem(costs))
    assert (free["difference"], free["difference_half"]) == pytest.approx((-0.06, (high - low) / 2))
    assert free["p"] == pytest.approx(stats.ttest_1samp(costs, 0.0).pvalue)
    assert free["p_adjusted"] == pytest.approx(2 * free["p"])  # the smaller of two
    assert capped["difference"] == pytest.approx(0.0, abs=1e-12)


def test_the_page_of_a_grid_says_gain_and_damage(grid: GridTables) -> None:
    report = report_of_grid(grid.directory)
    (section,) = report.sections
    said = " ".join(section.sentences)
    assert "Without a cap liars are selected in 100 % of the rounds" in said
    assert "\N{MINUS SIGN}6.0 ± 5.0 points at worst (max-share\N{NO-BREAK SPACE}1)" in said
    assert [drawn.name for drawn in section.figures] == ["liars"]
    assert "liars" not in {drawn.name for drawn in report.figures}
    html = render(report)
    assert '<a href="#liars">' in html
    assert html.count('<section id="liars">') == html.count('id="figure-liars"') == 1


def test_the_figure_has_a_line_a_setting_and_says_the_loss_in_points(grid: GridTables) -> None:
    gain, loss = liars_of_grid(grid).draw().axes
    assert [text.get_text() for text in gain.get_yticklabels()] == [
        "max-share\N{NO-BREAK SPACE}1", "max-share\N{NO-BREAK SPACE}0.5",
    ]  # fmt: skip
    points = loss.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(points, [-6.0, 0.0], atol=1e-9)


def test_names_of_many_settings_do_not_lie_on_each_other(
    grid: GridTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (f"own_rules_of_mine:rule_of_number_{number}" for number in range(12))
    few = damage(grid)
    named = (few.with_columns(pl.lit(rule).alias("coordination.selection")) for rule in rules)
    many = pl.concat(named)
    monkeypatch.setattr(liars, "damage", lambda _: many)
    figure = liars_of_grid(grid).draw(1)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
        assert len(boxes) == 24
        assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))


def test_without_runs_to_compare_with_the_damage_is_not_known(tmp_path: Path) -> None:
    axes = {"coordination.liars": ["1"]}
    path = write_grid(tmp_path / "grid", write_lying, axes=axes, seeds=(0,), twins=False)
    grid = read_grid(path)
    (row,) = damage(grid).to_dicts()
    assert (row["difference"], row["p"], row["share_before"]) == (None, None, None)
    (section,) = section_of_grid(grid, [])
    assert "is not known" in section.sentences[-1]


def test_a_grid_in_which_nobody_lies_has_no_section(made_up_grid: Path) -> None:
    grid = read_grid(made_up_grid)
    assert section_of_grid(grid, []) == []
    with pytest.raises(LeftOut, match="no client lies"):
        liars_of_grid(grid)


def test_the_page_of_a_run_names_the_liar_chance_and_the_cap(tmp_path: Path) -> None:
    settings = {"coordination.liars": "1", "coordination.max-share": 0.5}
    run = read_tables(write_lying(tmp_path / "run", settings))
    shares = shares_of(run.clients, (LIAR,))
    (liar,) = shares.filter("lies").to_dicts()
    assert liar["share"] == liar["selected"] / liar["asked"]
    report = report_of_run(tmp_path / "run")
    (section,) = report.sections
    said = " ".join(section.sentences)
    chance = run.clients["selected"].sum() / run.clients.height
    assert f"selected in {100 * liar['share']:.0f} % of the rounds" in said
    assert f"random selection takes {100 * chance:.0f} %" in said
    assert "bounds it at 50 %" in said
    (bars,) = liars_of_run(run).draw().axes
    widths = {
        text.get_text(): bar.get_width()
        for text, bar in zip(
            bars.get_yticklabels(),
            sorted(bars.patches, key=lambda bar: bar.get_y()),
            strict=True,
        )
    }
    assert widths[str(LIAR)] == liar["share"]
    assert "liars" in render(report)
