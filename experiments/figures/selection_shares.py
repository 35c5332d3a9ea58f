"""Who is selected how often, beside what labels they hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import need
from experiments.figures.style import MAIN, PERCENT, Columns, Panel, finish, lay_out

MOST_NAMED = 24


def selection_shares(
    clients: pl.DataFrame,
    label_counts: pl.DataFrame,
    *,
    columns: Columns = 2,
    about: Sequence[str] = (),
) -> Figure:
    """Draw each client's selection frequency beside the share of each label in its clips.

    Clients run down by frequency, the same in both panels, so a pattern in the labels of those
    at the top shows what the rule favours.

    Args:
        clients: a run's `clients.parquet`: `round`, `partition`, `selected`.
        label_counts: `partition` and a column a label with the client's number of clips.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if nobody was asked.
    """
    rows = need(clients, ["round", "partition", "selected"], of="the table of clients")
    frequency = rows.group_by("partition").agg(
        pl.len().alias("asked"), pl.col("selected").cast(pl.Float64).mean().alias("share")
    )
    order = (
        label_counts.select("partition")
        .join(frequency, on="partition", how="left", maintain_order="left")
        .sort(["share", "partition"], descending=[True, False], nulls_last=True)
    )
    labels = [column for column in label_counts.columns if column != "partition"]
    counts = order.select("partition").join(
        label_counts, on="partition", how="left", maintain_order="left"
    )
    table = counts.select(labels).to_numpy().astype(float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    panels: list[Panel] = [_bars(order), _heat_map(order, shares, labels)]
    inches = float(np.clip(0.14 * order.height + 0.9, 2.2, 4.6))
    note = "Clients by how often they were selected when asked; “–”: never asked."
    return lay_out(
        panels,
        columns=columns,
        title="Selection by client, and the labels they hold",
        subtitle=[*about, note],
        panel_inches=inches,
    )


def _name_clients(axes: Axes, order: pl.DataFrame, offset: float) -> None:
    step = -(-order.height // MOST_NAMED)
    places = np.arange(0, order.height, step)
    names = [str(order["partition"][int(place)]) for place in places]
    axes.set_yticks(places + offset, names)
    axes.tick_params(axis="y", rotation=0, length=0)


def _bars(order: pl.DataFrame) -> Panel:
    def draw(axes: Axes) -> None:
        shares = order["share"].fill_null(0).to_numpy()
        axes.barh(np.arange(order.height), shares, color=MAIN.colour, height=0.8)
        step = -(-order.height // MOST_NAMED)
        for place, asked in enumerate(order["asked"].to_list()):
            if place % step == 0:
                text = "–" if asked is None else f"of {asked}"
                axes.text(shares[place] + 0.02, place, text, va="center", size=6, color="0.35")
        _name_clients(axes, order, 0.0)
        axes.set_ylim(order.height - 0.5, -0.5)
        axes.set_xlim(0, 1.18)
        axes.set_xticks([0, 0.5, 1])
        axes.xaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False)
        finish(axes, "Selected when asked", x="share of rounds", y="client (partition)")

    return draw


def _heat_map(order: pl.DataFrame, shares: np.ndarray, labels: Sequence[str]) -> Panel:
    def draw(axes: Axes) -> None:
        sns.heatmap(
            shares,
            cmap="viridis_r",
            vmin=0,
            xticklabels=list(labels) if len(labels) <= MOST_NAMED else "auto",
            yticklabels=False,
            linewidths=0.4 if order.height <= 40 else 0,
            rasterized=order.height > 40,
            cbar_kws={"aspect": 18, "pad": 0.03, "format": PERCENT},
            ax=axes,
        )
        _name_clients(axes, order, 0.5)
        axes.tick_params(axis="x", rotation=90, length=0)
        axes.grid(visible=False)
        axes.set_title("Labels of its clips")
        axes.set(xlabel="", ylabel="")

    return draw
