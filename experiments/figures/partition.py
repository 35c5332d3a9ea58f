"""Figures of how clips are split over clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from fnl.data.describe import label_counts

_COLOUR_MAP = "viridis_r"
_ROW_INCHES = 0.28
_MOST_TICKS = 20
_WIDE_RANGE = 30
_LARGEST_GAP_LABELS = 60


def draw_partition(description: pl.DataFrame, labels: Sequence[str], *, title: str) -> Figure:
    """Draw who has what: clips by client and label, and each client's clips and speakers.

    Clients run down the page by partition; blank cells have no clips. The colours are perceptually
    uniform and safe for colour-blind readers, logarithmic where counts span a wide range.

    Args:
        description: what `fnl.data.describe.describe` returned.
        labels: label names, as given to `describe`.
        title: heading.

    Returns:
        The figure; saving it is the caller's.
    """
    clients = description.height
    height = float(np.clip(_ROW_INCHES * clients, 2.4, 8.0)) + 1.6
    width = 4.6 + float(np.clip(0.32 * len(labels), 2.5, 11.0))
    figure = Figure(figsize=(width, height), layout="constrained")
    ratios = [width - 4.0, 1.3, 1.3]
    heat, clips, speakers = figure.subplots(1, 3, sharey=True, width_ratios=ratios)
    _draw_counts(heat, description, labels)
    _draw_bars(clips, description["clips"].to_numpy(), "clips", "#0072B2")
    _draw_bars(speakers, description["speakers"].to_numpy(), "speakers", "#D55E00")
    figure.suptitle(title)
    return figure


def _draw_counts(axes: Axes, description: pl.DataFrame, labels: Sequence[str]) -> None:
    """Draw the heat map client x label with its colour bar and ticks."""
    counts = label_counts(description, labels)
    most = max(int(counts.max(initial=1)), 2)
    wide = most > _WIDE_RANGE
    sns.heatmap(
        counts,
        mask=counts == 0,
        ax=axes,
        cmap=_COLOUR_MAP,
        norm=LogNorm(1, most) if wide else Normalize(1, most),
        xticklabels=list(labels),
        yticklabels=False,
        linewidths=0.5 if len(counts) <= _LARGEST_GAP_LABELS else 0.0,
        rasterized=True,
        cbar_kws={
            "label": "clips of the label",
            "location": "top",
            "pad": 0.02,
            "shrink": 0.7,
            "aspect": 30,
            "ticks": LogLocator() if wide else MaxNLocator(5, integer=True),
            "format": "%d",
        },
    )
    rows = np.arange(0, len(counts), _tick_step(len(counts)))
    axes.set_yticks(rows + 0.5, [str(row) for row in description["partition"].to_numpy()[rows]])
    axes.tick_params(axis="y", rotation=0)
    for text in axes.get_xticklabels():
        text.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlabel="label", ylabel="client (partition)")
    for spine in axes.spines.values():
        spine.set_visible(True)


def _tick_step(clients: int) -> int:
    """Return the round number of clients between ticks that keeps them readable."""
    magnitudes = (step * 10**power for power in range(9) for step in (1, 2, 5))
    return next(step for step in magnitudes if clients <= step * _MOST_TICKS)


def _draw_bars(axes: Axes, values: np.ndarray, name: str, colour: str) -> None:
    """Draw one bar a client, as a single artist so that thousands stay fast."""
    axes.stairs(
        values,
        np.arange(len(values) + 1),
        orientation="horizontal",
        fill=True,
        color=colour,
    )
    axes.set(xlabel=name, xlim=(0, max(1, int(values.max(initial=1))) * 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(axis="y", left=False, labelleft=False)
    sns.despine(ax=axes)
