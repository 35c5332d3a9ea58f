"""The rate shift against indicators of sparsity and of memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import graded_looks, levels_of, spread
from experiments.figures.style import Columns, Panel, finish, lay_out, reference

INDICATORS = {
    "activation_sparsity": "activation sparsity",
    "connection_sparsity": "connection sparsity",
    "silent_fraction": "silent neurons (share)",
    "saturated_fraction": "saturated neurons (share)",
    "membrane_autocorrelation": "membrane autocorrelation (lag 1)",
    "membrane_variance": "membrane variance",
    "footprint_bytes": "footprint (bytes)",
    "state_bytes": "neuron state (bytes)",
}
"""Columns and what they are called: sparsity, then neuronal, then system memory."""
MOST_PANELS = 6


def shift_against_indicators(
    table: pl.DataFrame, *, point: str, columns: Columns = 2, about: Sequence[str] = ()
) -> Figure:
    """Draw a panel an indicator that varies, with Spearman's ρ.

    Args:
        table: `rate_shift`, `level`, `level_order` and columns of `INDICATORS`, a row a point.
        point: what a point is, for the heading.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if no shift was measured or no indicator varies.
    """
    rows = need(table, ["rate_shift", "level", "level_order"], of="the table of rate shifts")
    varying = [
        column
        for column in INDICATORS
        if column in rows.columns and rows[column].drop_nulls().n_unique() > 1
    ]
    if not varying:
        raise LeftOut("no indicator of sparsity or memory varies")
    panels: list[Panel] = [_panel(rows, column) for column in varying[:MOST_PANELS]]
    title = "Rate shift against sparsity and memory"
    notes = [*about, f"A point: {point}. ρ: Spearman's rank correlation over {rows.height} points."]
    return lay_out(panels, columns=columns, title=title, subtitle=notes)


def rank_correlation(rows: pl.DataFrame, column: str) -> float | None:
    """Return Spearman's ρ of the rate shift and a column; None where it is undefined."""
    known = rows.drop_nulls([column, "rate_shift"])
    x, y = known[column].to_numpy().astype(float), known["rate_shift"].to_numpy()
    if known.height < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(known.select(pl.corr(column, "rate_shift", method="spearman")).item())


def _panel(rows: pl.DataFrame, column: str) -> Panel:
    def draw(axes: Axes) -> None:
        levels = spread(levels_of(rows))
        for level, look in zip(levels, graded_looks(len(levels)), strict=True):
            points = rows.filter(pl.col("level") == level).drop_nulls(column)
            axes.plot(
                points[column].to_numpy(),
                points["rate_shift"].to_numpy(),
                linestyle="",
                marker=look.marker,
                color=look.colour,
                markerfacecolor=look.colour if len(levels) < 2 else "none",
                markersize=4,
                markeredgewidth=1,
                label=level,
            )
        reference(axes, 0, "no shift")
        rho = rank_correlation(rows, column)
        name = INDICATORS[column]
        title = "ρ undefined" if rho is None else f"ρ = {rho:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.locator_params(axis="x", nbins=4)
        axes.ticklabel_format(axis="x", useOffset=False)
        finish(axes, title, x=name, y="rate shift")

    return draw
