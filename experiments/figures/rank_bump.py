"""How clients move up and down the ranking from round to round: a bump chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import MOST_SERIES, graded_looks
from experiments.figures.style import Columns, Panel, finish, lay_out

_OTHERS = "0.75"


def rank_bump(
    rankings: Mapping[str, pl.DataFrame],
    *,
    selected: int,
    columns: Columns = 2,
    about: Sequence[str] = (),
) -> Figure:
    """Draw the rank of each client over the rounds in which it was a candidate.

    The clients most often near the top of the first ranking are drawn in looks of their own, in
    every panel the same; the others are thin and grey.

    Args:
        rankings: title of a panel: a table with `round`, `partition` and `rank`, 1 the best.
        selected: ranks up to this one are selected.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

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
    panels: list[Panel] = [_panel(rows, title, followed, selected) for title, rows in known.items()]
    note = f"Above the line: the {selected} selected. A gap: not a candidate in that round."
    return lay_out(
        panels,
        columns=columns,
        title="Ranks of the clients over the rounds",
        subtitle=[*about, note],
        panel_inches=2.6,
    )


def _most_prominent(rows: pl.DataFrame) -> list[int]:
    """Return the clients to follow: asked in many rounds, and best ranked among those."""
    order = (
        rows.group_by("partition")
        .agg(pl.len().alias("asked"), pl.col("rank").mean().alias("mean_rank"))
        .with_columns(score=pl.col("asked") / (1 + pl.col("mean_rank")))
        .sort(["score", "partition"], descending=[True, False])
    )
    return sorted(order["partition"].head(MOST_SERIES).to_list())


def _panel(rows: pl.DataFrame, title: str, followed: list[int], selected: int) -> Panel:
    def draw(axes: Axes) -> None:
        looks = dict(zip(followed, graded_looks(len(followed)), strict=True))
        last_round = int(str(rows["round"].max()))
        worst = int(str(rows["rank"].max()))
        for (partition,), line in rows.group_by("partition", maintain_order=True):
            look = looks.get(int(str(partition)))
            rounds, ranks = _with_gaps(line)
            axes.plot(
                rounds,
                ranks,
                color=look.colour if look else _OTHERS,
                linestyle=look.line if look else "-",
                marker=look.marker if look else ".",
                linewidth=1.4 if look else 0.6,
                markersize=4 if look else 2,
                zorder=3 if look else 1,
                label=f"client {partition}" if look else f"_client {partition}",
            )
        axes.axhline(selected + 0.5, color="0.2", linewidth=0.8, linestyle=(0, (6, 2)))
        axes.set_ylim(worst + 0.6, 0.4)
        axes.set_xlim(0.7, last_round + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(visible=False)
        handles = axes.get_legend_handles_labels()
        order = sorted(range(len(handles[1])), key=lambda i: int(handles[1][i].split()[-1]))
        for position, index in enumerate(order):
            handles[0][index].set_zorder(3 + position / 100)
        finish(axes, title, x="round", y="rank")

    return draw


def _with_gaps(line: pl.DataFrame) -> tuple[list[float], list[float]]:
    """Return rounds and ranks with a break wherever the client was not asked in between."""
    rounds: list[float] = []
    ranks: list[float] = []
    for server_round, rank in line.select("round", "rank").iter_rows():
        if rounds and server_round > rounds[-1] + 1:
            rounds.append(server_round - 0.5)
            ranks.append(float("nan"))
        rounds.append(server_round)
        ranks.append(rank)
    return rounds, ranks
