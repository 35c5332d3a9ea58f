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
    drawn = {}
    for (partition,), line in rows.group_by("partition", maintain_order=True):
        client = int(str(partition))
        look = looks.get(client)
        (drawn[client],) = axes.plot(
            *_with_gaps(line),
            color=look.colour if look else _OTHERS,
            linestyle=look.line if look else "-",
            marker=look.marker if look else ".",
            linewidth=1.4 if look else 0.6,
            markersize=4 if look else 2,
            zorder=1,
            label=f"client {partition}" if look else f"_client {partition}",
        )
    for position, client in enumerate(client for client in followed if client in drawn):
        drawn[client].set_zorder(3 + position / 100)
    axes.axhline(selected + 0.5, color="0.2", linewidth=0.8, linestyle=(0, (6, 2)))
    axes.set_ylim(int(str(rows["rank"].max())) + 0.6, 0.4)
    axes.set_xlim(0.7, int(str(rows["round"].max())) + 0.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(visible=False)
    finish(axes, title, x="round", y="rank")


def _with_gaps(line: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return rounds and ranks with a break wherever the client was not asked in between."""
    rounds, ranks = (line[name].cast(pl.Float64).to_numpy() for name in ("round", "rank"))
    gaps = np.flatnonzero(np.diff(rounds) > 1) + 1
    return np.insert(rounds, gaps, rounds[gaps] - 0.5), np.insert(ranks, gaps, np.nan)
