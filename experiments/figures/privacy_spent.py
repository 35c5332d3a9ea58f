"""Privacy spent over the rounds, against what was claimed."""

from __future__ import annotations

from functools import partial

import polars as pl
from matplotlib.axes import Axes

from experiments.figures.catalogue import need
from experiments.figures.looks import by_level
from experiments.figures.panel_kinds import over_rounds
from experiments.figures.style import Sheet, finish, start_at_zero


def privacy_spent(rounds: pl.DataFrame) -> Sheet:
    """Draw ε of the client that has spent most, and the mean client's, a line a level.

    Args:
        rounds: `round`, `epsilon_max`, `epsilon_mean`, `level`, `level_order` and, where a budget
            was set, `budget`. Where a level has several runs, the largest of them is drawn for
            the first panel and their mean for the second.

    Raises:
        LeftOut: if no run spent any.
    """
    rows = need(rounds, ["round", "epsilon_max"], of="the table of rounds")
    most, mean = pl.col("epsilon_max").max(), pl.col("epsilon_mean").mean()
    panels = [
        partial(_panel, rows, most, "Client that has spent most"),
        partial(_panel, rows, mean, "Mean of all clients"),
    ]
    notes = [
        "ε of what clients have released so far. Left: the largest of all runs; right: their mean."
    ]
    if "budget" in rows.columns and rows["budget"].count():
        notes.append("Thin lines: budgets, of which nobody spends more.")
    return Sheet("Privacy spent over the rounds", panels, notes)


def _panel(rows: pl.DataFrame, spent: pl.Expr, title: str, axes: Axes) -> None:
    for level, look, of_level in by_level(rows):
        values = of_level.group_by("round").agg(spent)
        over_rounds(axes, values, spent.meta.output_name(), look, label=level)
        if "budget" in rows.columns:
            for budget in of_level["budget"].drop_nulls().unique():
                axes.axhline(budget, color=look.colour, linewidth=0.6, linestyle=(0, (6, 2)))
    start_at_zero(axes)
    finish(axes, title, x="round", y="ε")
