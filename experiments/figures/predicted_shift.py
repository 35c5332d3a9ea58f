"""First-order prediction of the rate shift against what was measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from scipy import stats

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import by_level
from experiments.figures.style import Sheet, finish

PREDICTED, DEVIATION = "predicted_rate_shift", "predicted_rate_shift_sd"
MOST_BARS = 400
MOST_LEVELS = 4


def measured_shift(clients: pl.DataFrame) -> pl.DataFrame:
    """Return rows with a prediction and `measured`: rate after training minus the shadow's.

    Raises:
        LeftOut: if no prediction was made, or no shadow computed.
    """
    needed = [PREDICTED, "firing_rate_after", "firing_rate_shadow"]
    rows = need(clients, needed, of="the table of clients")
    return rows.with_columns(measured=pl.col("firing_rate_after") - pl.col("firing_rate_shadow"))


def predicted_against_measured(clients: pl.DataFrame) -> Sheet:
    """Draw a point a (round, candidate): predicted against measured shift, and where they agree.

    Args:
        clients: `clients.parquet`, for several runs with `level` and `level_order`.

    Raises:
        LeftOut: if there are fewer than three points.
    """
    rows = measured_shift(clients)
    if rows.height < 3:
        raise LeftOut(f"{rows.height} predictions are too few to compare")
    if "level" not in rows.columns:
        rows = rows.with_columns(level=pl.lit(""), level_order=pl.lit(0.0))
    notes = [correlation_sentence(rows)]
    fewest = rows.group_by("level").len()["len"].to_numpy().min()
    if DEVIATION in rows.columns and rows[DEVIATION].count() and fewest <= MOST_BARS:
        notes.append("Bars: ± 2 predicted standard deviations.")
    return Sheet("Predicted against measured rate shift", [partial(_panel, rows)], notes, 2.8)


def pearson(rows: pl.DataFrame) -> Any:
    """Return SciPy's Pearson correlation of predicted and measured; None if one does not vary."""
    predicted, measured = rows[PREDICTED].to_numpy(), rows["measured"].to_numpy()
    varies = np.ptp(predicted) > 0 and np.ptp(measured) > 0
    return stats.pearsonr(predicted, measured) if varies else None


def correlation_sentence(rows: pl.DataFrame) -> str:
    """Return Pearson's r with its 95 % interval (Fisher's z) and Spearman's ρ, or why not."""
    found = pearson(rows)
    if found is None:
        return f"{rows.height} candidates; no correlation: one of the two does not vary."
    rank = float(rows.select(pl.corr(PREDICTED, "measured", method="spearman")).item())
    interval = ""
    if rows.height > 3 and abs(found.statistic) < 1:
        low, high = found.confidence_interval()
        interval = f" (95 % interval {low:.2f} to {high:.2f}, candidates taken as independent)"
    r = f"{found.statistic:.2f}"
    return f"{rows.height} candidates: Pearson r = {r}{interval}, Spearman ρ = {rank:.2f}."


def _panel(rows: pl.DataFrame, axes: Axes) -> None:
    for level, look, points in by_level(rows, MOST_LEVELS):
        few = points.height <= MOST_BARS
        x, y = points[PREDICTED].to_numpy(), points["measured"].to_numpy()
        if DEVIATION in points.columns and few:
            deviations = 2 * points[DEVIATION].fill_null(0).to_numpy()
            axes.errorbar(x, y, xerr=deviations, fmt="none", ecolor="0.8", elinewidth=0.5)
        axes.plot(
            x,
            y,
            linestyle="",
            marker=look.marker,
            color=look.colour,
            markersize=3.2 if few else 1.6,
            alpha=0.85 if few else 0.4,
            label=level or "_candidates",
            rasterized=not few,
            zorder=3,
        )
    both = rows.select(PREDICTED, "measured").to_numpy()
    low, high = float(both.min()), float(both.max())
    dashed = {"color": "0.35", "linestyle": (0, (6, 2)), "linewidth": 0.9}
    axes.axline((low, low), (high, high + 1e-12), **dashed)
    axes.axhline(0, color="0.85", linewidth=0.5, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.5, zorder=0)
    x, y = "predicted shift (spikes / neuron / step)", "measured: after training − shadow"
    finish(axes, "Dashed: prediction = measurement", x=x, y=y)
