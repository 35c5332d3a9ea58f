"""Kinds of panels that figures of a run are made of: each draws one table into one axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import MAIN, Look

MOST_MARKERS = 16


def over_rounds(
    axes: Axes,
    table: pl.DataFrame,
    column: str,
    look: Look = MAIN,
    *,
    label: str = "",
    bridge: bool = False,
) -> None:
    """Draw one value a round.

    Args:
        axes: where.
        table: with `round` and `column`.
        column: what; a column without any value draws nothing.
        look: of the line.
        label: in the legend; empty: the panel has one series, and its title says which.
        bridge: connect over rounds without a value (not evaluated); else they are gaps (undefined).
    """
    rows = table.select("round", column).sort("round")
    known = rows.drop_nulls()
    if not known.height:
        return
    inside = pl.col("round").is_between(known["round"][0], known["round"][-1])
    rows = known if bridge else rows.filter(inside)
    axes.plot(
        rows["round"].to_numpy(),
        rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=1 if rows[column].null_count() else -(-rows.height // MOST_MARKERS),
        label=label or f"_{column}",
    )
    _round_axis(axes, rows["round"].to_numpy())


def spread_over_rounds(
    axes: Axes, table: pl.DataFrame, column: str, look: Look = MAIN, *, label: str = ""
) -> None:
    """Draw the median over a round's rows and a band from the first to the third quartile."""
    rows = table.select("round", column).drop_nulls().sort("round")
    if not rows.height:
        return
    sns.lineplot(
        x=rows["round"].to_numpy(),
        y=rows[column].to_numpy(),
        estimator="median",
        errorbar=("pi", 50),
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markeredgecolor=look.colour,
        markevery=-(-rows["round"].n_unique() // MOST_MARKERS),
        label=label or f"_{column}",
        err_kws={"linewidth": 0},
        legend=False,
        ax=axes,
    )
    _round_axis(axes, rows["round"].to_numpy())


def by_client(axes: Axes, series: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    """Draw a bar a client: the first series light, a second one dark in front of it.

    A series is a single artist, so that thousands of clients stay fast.

    Args:
        axes: where.
        series: one or two, each [clients], by partition.
        labels: of each series, in the legend.
    """
    clients = len(series[0])
    edges = np.add.outer(np.arange(clients), [-0.4, 0.4]).ravel()
    fills = ("0.8", MAIN.colour)[-len(series) :]
    for values, label, fill in zip(series, labels, fills, strict=True):
        bars = np.zeros(2 * clients - 1)  # every second one is the gap between two clients
        bars[::2] = values
        axes.stairs(bars, edges, fill=True, color=fill, linewidth=0, label=label)
    axes.set_xlim(-0.7, clients - 0.3)
    axes.set_ylim(0, max(1.0, *(float(values.max()) for values in series)) * 1.08)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _round_axis(axes: Axes, rounds: np.ndarray) -> None:
    """Let rounds start at 0, the model before the first, in every panel, and tick at integers."""
    last = max(float(rounds.max()), axes.dataLim.x1)
    pad = max(0.04 * last, 0.1)
    axes.set_xlim(-pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
