"""Privacy spent over the rounds, against what was claimed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import need
from experiments.figures.looks import graded_looks, levels_of, spread
from experiments.figures.panel_kinds import over_rounds
from experiments.figures.style import Columns, Panel, finish, lay_out, start_at_zero


def privacy_spent(
    rounds: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()
) -> Figure:
    """Draw ε of the client that has spent most, and the mean client's, a line a level.

    Args:
        rounds: `round`, `epsilon_max`, `epsilon_mean`, `level`, `level_order` and, where a budget
            was set, `budget`. Where a level has several runs, the largest of them is drawn for
            the first panel and their mean for the second.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if no run spent any.
    """
    rows = need(rounds, ["round", "epsilon_max"], of="the table of rounds")
    panels: list[Panel] = [
        _panel(rows, "epsilon_max", "max", "Client that has spent most"),
        _panel(rows, "epsilon_mean", "mean", "Mean of all clients"),
    ]
    notes = [*about]
    if "budget" in rows.columns and rows["budget"].count():
        notes.append("Thin lines: budgets.")
    return lay_out(panels, columns=columns, title="Privacy spent over the rounds", subtitle=notes)


def _panel(rows: pl.DataFrame, column: str, how: str, title: str) -> Panel:
    def draw(axes: Axes) -> None:
        levels = spread(levels_of(rows))
        for level, look in zip(levels, graded_looks(len(levels)), strict=True):
            of_level = rows.filter(pl.col("level") == level)
            values = of_level.group_by("round").agg(
                pl.col(column).max() if how == "max" else pl.col(column).mean()
            )
            over_rounds(axes, values, column, look, label=level)
            if "budget" in rows.columns:
                for budget in of_level["budget"].drop_nulls().unique():
                    axes.axhline(budget, color=look.colour, linewidth=0.6, linestyle=(0, (6, 2)))
        start_at_zero(axes)
        finish(axes, title, x="round", y="ε")

    return draw
