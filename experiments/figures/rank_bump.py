"""How clients move up and down the ranking from round to round: a bump chart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import MOST_SERIES, graded_looks
from experiments.figures.style import Sheet, finish

_OTHERS = "0.75"


def rank_bump(rankings: Mapping[str, pl.DataFrame], *, selected: int) -> Sheet:
    """Draw the rank of each client over the rounds in which it was a candidate.

    The clients most often near the top of the first ranking are drawn in looks of their own, in
    every panel the same; the others are thin and grey.

    Args:
        rankings: title of a panel: a table with `round`, `partition` and `rank`, 1 the best.
        selected: ranks up to this one are selected.

    Raises:
        LeftOut: if there is no ranking over at least two rounds.
    """
    known = {}
    for title, table in rankings.items():
        rows = need(table, ["round", "partition", "rank"], of=f"the ranking {title!r}")
        if rows["round"].n_unique() < 2:
            raise LeftOut("ranks over rounds need at least two rounds")
        known[title] = rows.sort("round")
    followed = _most_prominent(next(iter(known.values())))
    panels = [partial(_panel, rows, title, followed, selected) for title, rows in known.items()]
    note = f"Above the line: the {selected} selected. A gap: not a candidate in that round."
    return Sheet("Ranks of the clients over the rounds", panels, [note], 2.6)


def _most_prominent(rows: pl.DataFrame) -> list[int]:
    """Return the clients to follow: asked in many rounds, and best ranked among those."""
    order = (
        rows.group_by("partition")
        .agg(pl.len().alias("asked"), pl.col("rank").mean().alias("mean_rank"))
        .with_columns(score=pl.col("asked") / (1 + pl.col("mean_rank")))
        .sort(["score", "partition"], descending=[True, False])
    )
    return sorted(order["partition"].head(MOST_SERIES).to_list())


def _panel(rows: pl.DataFrame, title: str, followed: list[int], selected: int, axes: Axes) -> None:
    looks = dict(zip(followed, graded_looks(len(followed)), strict=True))
    others = rows.filter(~pl.col("partition").is_in(followed)).sort("partition", "round")
    axes.plot(  # as one line with gaps: a line each takes minutes where thousands were asked
        *_with_gaps(others),
        color=_OTHERS,
        marker=".",
        linewidth=0.6,
        markersize=2,
        zorder=1,
        label="_others",
    )
    for position, client in enumerate(followed):
        look, line = looks[client], rows.filter(pl.col("partition") == client)
        if line.is_empty():
            continue
        axes.plot(
            *_with_gaps(line),
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            linewidth=1.4,
            markersize=4,
            zorder=3 + position / 100,
            label=f"client {client}",
        )
    axes.axhline(selected + 0.5, color="0.2", linewidth=0.8, linestyle=(0, (6, 2)))
    axes.set_ylim(int(str(rows["rank"].max())) + 0.6, 0.4)
    axes.set_xlim(0.7, int(str(rows["round"].max())) + 0.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(visible=False)
    finish(axes, title, x="round", y="rank")


def _with_gaps(lines: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return rounds and ranks, with a break between clients and wherever one was not asked."""
    rounds, ranks = (lines[name].cast(pl.Float64).to_numpy() for name in ("round", "rank"))
    gaps = np.flatnonzero((np.diff(rounds) > 1) | (np.diff(lines["partition"]) != 0)) + 1
    return np.insert(rounds, gaps, rounds[gaps] - 0.5), np.insert(ranks, gaps, np.nan)
