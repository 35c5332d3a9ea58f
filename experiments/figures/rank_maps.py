"""How clients move up and down the ranking from round to round: a map, a row a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import MaxNLocator

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.style import Sheet, finish

MOST_CLIENTS = 40
"""Rows that can be told apart."""
_COLOURS = "PuOr"  # diverging, told apart by the colour-blind, dark at both ends in grey


def rank_maps(rankings: Mapping[str, pl.DataFrame], *, selected: int) -> Sheet:
    """Draw the rank of each client in each round in which it was a candidate, a panel a ranking.

    Args:
        rankings: title of a panel: a table with `round`, `partition` and `rank`, 1 the best. Rows
            are by the mean rank in the first, in every panel the same.
        selected: ranks up to this one are selected.

    Raises:
        LeftOut: if there is no ranking over at least two rounds.
    """
    known = {}
    for title, table in rankings.items():
        known[title] = need(table, ["round", "partition", "rank"], of=f"the ranking {title!r}")
        if known[title]["round"].n_unique() < 2:
            raise LeftOut("ranks over rounds need at least two rounds")
    first = next(iter(known.values()))
    shown = (
        first.group_by("partition")
        .agg(asked=pl.len(), mean=pl.col("rank").mean())
        .sort(["asked", "mean", "partition"], descending=[True, False, False])
        .head(MOST_CLIENTS)
        .sort(["mean", "partition"])["partition"]
        .to_list()
    )
    last = max(int(str(rows["rank"].max())) for rows in known.values())
    norm = TwoSlopeNorm(selected + 0.5, min(1, selected), max(last, selected + 1))
    panels = [partial(_panel, rows, title, shown, norm) for title, rows in known.items()]
    count = first["partition"].n_unique()
    left_out = f"; the {len(shown)} of {count} that were asked most" if len(shown) < count else ""
    note = (
        f"Orange: ranks 1 to {selected}, selected. Grey: not a candidate. "
        f"Clients by their mean rank in the first panel{left_out}."
    )
    inches = float(np.clip(0.11 * len(shown) + 0.9, 2.2, 5.0))
    return Sheet("Ranks of the clients over the rounds", panels, [note], inches)


def _panel(
    rows: pl.DataFrame,
    title: str,
    shown: Sequence[int],
    norm: TwoSlopeNorm,
    axes: Axes,
) -> None:
    rounds = range(int(str(rows["round"].min())), int(str(rows["round"].max())) + 1)
    ranks = np.full((len(shown), len(rounds)), np.nan)
    place = {client: row for row, client in enumerate(shown)}
    for at, client, rank in rows.select("round", "partition", "rank").drop_nulls().iter_rows():
        if client in place:
            ranks[place[client], at - rounds.start] = rank
    mesh = axes.pcolormesh(
        np.arange(rounds.start, rounds.stop + 1) - 0.5,
        np.arange(len(shown) + 1) - 0.5,
        np.ma.masked_invalid(ranks),
        cmap=_COLOURS,
        norm=norm,
        edgecolor="white",
        linewidth=0.3,
        rasterized=ranks.size > 2000,
    )
    selected, last = int(norm.vcenter), int(norm.vmax or 0)
    ticks = sorted({1, selected, last})
    bar = axes.figure.colorbar(mesh, ax=axes, aspect=18, pad=0.03, ticks=ticks, label="rank")
    bar.ax.invert_yaxis()
    axes.set_facecolor("0.85")
    axes.invert_yaxis()
    step = -(-len(shown) // 20)
    axes.set_yticks(range(0, len(shown), step), [str(client) for client in shown[::step]])
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(visible=False)
    finish(axes, title, x="round", y="client (partition)")
