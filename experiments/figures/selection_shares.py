"""Who is selected how often, beside what labels they hold."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.run_tables import RunTables
from experiments.figures.style import MAIN, PERCENT, Panel, Sheet, finish
from fnl.data.corpus import TRAIN
from fnl.data.describe import count_column, describe
from fnl.data.federated import cache_dir, partition_spec
from fnl.data.partitioning import partition
from fnl.data.store import FeatureStore
from fnl.errors import FnlError

MOST_NAMED = 24
MOST_ROWS = 1_000
"""Of a figure, which has no more pixels: of more clients neighbours are drawn as their mean."""
_EVEN = 0.2
"""Of the largest share of a label: where shares differ by less, a map of them is one block."""


def selection_shares(clients: pl.DataFrame, label_counts: pl.DataFrame, *notes: str) -> Sheet:
    """Draw each client's selection frequency beside the share of each label in its clips.

    Where every client holds all labels evenly there is no such map, and a note says so.

    Clients run down by frequency, the same in both panels, so a pattern in the labels of those
    at the top shows what the rule favours.

    Args:
        clients: a run's `clients.parquet`: `round`, `partition`, `selected`.
        label_counts: `partition` and a column a label with the client's number of clips.
        notes: sentences under the title.

    Raises:
        LeftOut: if nobody was asked.
    """
    rows = need(clients, ["round", "partition", "selected"], of="the table of clients")
    frequency = rows.group_by("partition").agg(
        pl.len().alias("asked"), pl.col("selected").cast(pl.Float64).mean().alias("share")
    )
    labels = pl.struct(pl.exclude("partition"))
    with_labels = label_counts.select("partition", held=labels)  # whatever the labels are called
    order = with_labels.join(frequency, on="partition", how="left", maintain_order="left").sort(
        ["share", "partition"], descending=[True, False], nulls_last=True
    )
    held = _shares_of_labels(order)
    even = bool(np.ptp(held) <= _EVEN * held.max())
    inches = float(np.clip(0.14 * order.height + 0.9, 2.2, 4.6))
    chance = float(rows.select(pl.col("selected").cast(pl.Float64).mean()).item())
    note = (
        "Clients by how often they were selected when asked; “–”: never asked. "
        "Line: what to expect under random selection."
    )
    title = "Selection by client" + ("" if even else ", and the labels they hold")
    panels: list[Panel] = [partial(_bars, order, chance)]
    if even:
        ends = dict.fromkeys(f"{100 * share:.3g}" for share in (held.min(), held.max()))
        note += (
            f" Every client holds all labels evenly, each {' to '.join(ends)} % of its clips: a "
            "map of them would be one block."
        )
    else:
        panels.append(partial(_heat_map, order))
    return Sheet(title, panels, [*notes, note], inches)


def labels_held(run: RunTables) -> pl.DataFrame:
    """Return `partition` and a column a label with the clips each client holds.

    Nothing is computed but the split, which configuration and clips decide.

    Raises:
        LeftOut: if this machine no longer has the run's features.
    """
    if not run.features:
        raise LeftOut("the run does not say which features it used: who holds what is not known")
    path = cache_dir(run.config.data) / "features" / run.features
    try:
        store = FeatureStore.open(path)
        rows = (store.clips["split"] == TRAIN).arg_true().to_numpy()
        split = partition(store.clips, rows, partition_spec(run.config))
    except FnlError:
        raise LeftOut(
            "the features that the run used are not cached here: who holds what is not known"
        ) from None
    held = describe(store.clips, store.labels, split)
    return held.select(
        "partition", *(pl.col(count_column(label)).alias(label) for label in store.labels)
    )


def _shares_of_labels(order: pl.DataFrame) -> np.ndarray:
    """Return the share of each label in each client's clips, float64 [N, K]; 0 without clips."""
    counts = order["held"].struct.unnest().to_numpy().astype(float)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _means_of_neighbours(values: np.ndarray) -> np.ndarray:
    """Return `values` [N, K] if a figure has so many rows, else means of neighbours."""
    if len(values) <= MOST_ROWS:
        return values
    starts = np.arange(MOST_ROWS) * len(values) // MOST_ROWS
    sizes = np.diff(starts, append=len(values))
    return np.add.reduceat(values, starts, axis=0) / sizes[:, None]


def _name_clients(axes: Axes, order: pl.DataFrame, offset: float, scale: float = 1.0) -> list[int]:
    """Name the clients down the page, of many some; return the places of those."""
    places = list(range(0, order.height, -(-order.height // MOST_NAMED)))
    names = [str(name) for name in order["partition"].gather(places)]
    axes.set_yticks([place * scale + offset for place in places], names)
    axes.tick_params(axis="y", rotation=0, length=0)
    return places


def _bars(order: pl.DataFrame, chance: float, axes: Axes) -> None:
    shares = order["share"].fill_null(0).to_numpy()
    if order.height <= MOST_ROWS:
        axes.barh(np.arange(order.height), shares, color=MAIN.colour, height=0.8)
    else:  # one outline: a bar each takes minutes
        edges = np.linspace(-0.5, order.height - 0.5, MOST_ROWS + 1)
        means = _means_of_neighbours(shares[:, None])[:, 0]
        axes.stairs(means, edges, orientation="horizontal", fill=True, color=MAIN.colour)
    axes.axvline(chance, color="0.2", linewidth=0.8, linestyle=(0, (6, 2)))
    for place in _name_clients(axes, order, 0.0):
        asked = order["asked"][place]
        text = "–" if asked is None else f"of {asked}"
        axes.text(float(shares[place]) + 0.02, place, text, va="center", size=6, color="0.35")
    axes.set_ylim(order.height - 0.5, -0.5)
    axes.set_xlim(0, 1.18)
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PERCENT)
    axes.grid(visible=False)
    finish(
        axes,
        "Selected when asked",
        x="share of the rounds in which it was asked",
        y="client (partition)",
    )


def _heat_map(order: pl.DataFrame, axes: Axes) -> None:
    counts = order["held"].struct.unnest()
    shares = _means_of_neighbours(_shares_of_labels(order))
    sns.heatmap(
        shares,
        cmap="viridis_r",
        vmin=0,
        xticklabels=counts.columns if counts.width <= MOST_NAMED else "auto",
        yticklabels=False,
        linewidths=0.4 if order.height <= 40 else 0,
        rasterized=order.height > 40,
        cbar_kws={"aspect": 18, "pad": 0.03, "format": PERCENT},
        ax=axes,
    )
    _name_clients(axes, order, 0.5, scale=len(shares) / order.height)
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.grid(visible=False)
    axes.set_title("Labels: share of the client's clips")
    axes.set(xlabel="", ylabel="")
