"""First-order prediction of the rate shift against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import graded_looks, levels_of, spread
from experiments.figures.style import Columns, Panel, finish, lay_out

PREDICTED, DEVIATION = "predicted_rate_shift", "predicted_rate_shift_sd"
MOST_BARS = 400
MOST_LEVELS = 4
_NORMAL = 1.959964
"""Of a two-sided 95 % interval."""


def measured_shift(clients: pl.DataFrame) -> pl.DataFrame:
    """Return rows with a prediction and `measured`: rate after training minus the shadow's.

    Raises:
        LeftOut: if no prediction was made, or no shadow computed.
    """
    needed = [PREDICTED, "firing_rate_after", "firing_rate_shadow"]
    rows = need(clients, needed, of="the table of clients")
    return rows.with_columns(measured=pl.col("firing_rate_after") - pl.col("firing_rate_shadow"))


def predicted_against_measured(
    clients: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()
) -> Figure:
    """Draw a point a (round, candidate): predicted against measured shift, and where they agree.

    Args:
        clients: `clients.parquet`, for several runs with `level` and `level_order`.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if there are fewer than three points.
    """
    rows = measured_shift(clients)
    if rows.height < 3:
        raise LeftOut(f"{rows.height} predictions are too few to compare")
    if "level" not in rows.columns:
        rows = rows.with_columns(level=pl.lit(""), level_order=pl.lit(0.0))
    panels: list[Panel] = [_panel(rows)]
    notes = [*about, correlation_sentence(rows)]
    fewest = rows.group_by("level").len()["len"].to_numpy().min()
    if DEVIATION in rows.columns and rows[DEVIATION].count() and fewest <= MOST_BARS:
        notes.append("Bars: ± 2 predicted standard deviations.")
    title = "Predicted against measured rate shift"
    return lay_out(panels, columns=columns, title=title, subtitle=notes, panel_inches=2.8)


def correlation_sentence(rows: pl.DataFrame) -> str:
    """Return Pearson's r with its 95 % interval (Fisher's z) and Spearman's ρ, or why not."""
    predicted, measured = rows[PREDICTED].to_numpy(), rows["measured"].to_numpy()
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return f"{rows.height} candidates; no correlation: one of the two does not vary."
    r = float(rows.select(pl.corr(PREDICTED, "measured")).item())
    rank = float(rows.select(pl.corr(PREDICTED, "measured", method="spearman")).item())
    interval = ""
    if rows.height > 3 and abs(r) < 1:
        low, high = np.tanh(np.arctanh(r) + _NORMAL * np.array([-1, 1]) / np.sqrt(rows.height - 3))
        interval = f" (95 % interval {low:.2f} to {high:.2f}, candidates taken as independent)"
    return f"{rows.height} candidates: Pearson r = {r:.2f}{interval}, Spearman ρ = {rank:.2f}."


def _panel(rows: pl.DataFrame) -> Panel:
    def draw(axes: Axes) -> None:
        levels = spread(levels_of(rows), MOST_LEVELS)
        for level, look in zip(levels, graded_looks(len(levels)), strict=True):
            points = rows.filter(pl.col("level") == level)
            x, y = points[PREDICTED].to_numpy(), points["measured"].to_numpy()
            if DEVIATION in points.columns and points.height <= MOST_BARS:
                spread_ = 2 * points[DEVIATION].fill_null(0).to_numpy()
                axes.errorbar(x, y, xerr=spread_, fmt="none", ecolor="0.8", elinewidth=0.5)
            axes.plot(
                x,
                y,
                linestyle="",
                marker=look.marker,
                color=look.colour,
                markersize=3.2 if points.height <= MOST_BARS else 1.6,
                alpha=0.85 if points.height <= MOST_BARS else 0.4,
                label=level or "_candidates",
                rasterized=points.height > MOST_BARS,
                zorder=3,
            )
        low = float(min(rows[PREDICTED].min(), rows["measured"].min()))  # type: ignore[type-var]
        high = float(max(rows[PREDICTED].max(), rows["measured"].max()))  # type: ignore[type-var]
        axes.axline(
            (low, low), (high, high + 1e-12), color="0.35", linestyle=(0, (6, 2)), linewidth=0.9
        )
        axes.axhline(0, color="0.85", linewidth=0.5, zorder=0)
        axes.axvline(0, color="0.85", linewidth=0.5, zorder=0)
        finish(
            axes,
            "Dashed: prediction = measurement",
            x="predicted shift (spikes / neuron / step)",
            y="measured: after training − shadow",
        )

    return draw
