"""The rate shift against indicators of sparsity and of memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import by_level
from experiments.figures.style import Sheet, finish, reference

INDICATORS = {
    "connection_sparsity": "connection sparsity",
    "silent_fraction": "silent neurons (share)",
    "saturated_fraction": "saturated neurons (share)",
    "membrane_autocorrelation": "membrane autocorrelation (lag 1)",
    "membrane_variance": "membrane variance",
    "footprint_bytes": "footprint (bytes)",
    "state_bytes": "neuron state (bytes)",
}
"""Columns and what they are called: sparsity, then neuronal, then system memory.

Activation sparsity is 1 − the firing rate where layers are of one width: a shift of one is a shift
of the other by definition, and its correlation says nothing.
"""
MOST_PANELS = 6


def shift_against_indicators(table: pl.DataFrame, *, point: str) -> Sheet:
    """Draw a panel an indicator that varies, with Spearman's ρ.

    Args:
        table: `rate_shift`, `level`, `level_order` and columns of `INDICATORS`, a row a point.
        point: what a point is, for the heading.

    Raises:
        LeftOut: if no shift was measured or no indicator varies.
    """
    rows = need(table, ["rate_shift", "level", "level_order"], of="the table of rate shifts")
    known = [column for column in INDICATORS if column in rows.columns]
    varying = [column for column in known if rows[column].drop_nulls().n_unique() > 1]
    if not varying:
        raise LeftOut("no indicator of sparsity or memory varies")
    panels = [partial(_panel, rows, column) for column in varying[:MOST_PANELS]]
    notes = [
        f"A point: {point}. ρ: Spearman's rank correlation over {rows.height} points.",
        "Activation sparsity is left out: it is 1 − the firing rate, so the two shift together by "
        "definition.",
    ]
    return Sheet("Rate shift against sparsity and memory", panels, notes)


def rank_correlation(rows: pl.DataFrame, column: str) -> float | None:
    """Return Spearman's ρ of the rate shift and a column; None where it is undefined."""
    known = rows.drop_nulls([column, "rate_shift"])
    x, y = known[column].to_numpy().astype(float), known["rate_shift"].to_numpy()
    if known.height < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(known.select(pl.corr(column, "rate_shift", method="spearman")).item())


def _panel(rows: pl.DataFrame, column: str, axes: Axes) -> None:
    alone = rows["level"].n_unique() < 2
    for level, look, of_level in by_level(rows):
        points = of_level.drop_nulls(column)
        axes.plot(
            points[column].to_numpy(),
            points["rate_shift"].to_numpy(),
            linestyle="",
            marker=look.marker,
            color=look.colour,
            markerfacecolor=look.colour if alone else "none",
            markersize=4,
            markeredgewidth=1,
            label=level,
        )
    reference(axes, 0, "no shift")
    rho = rank_correlation(rows, column)
    title = "ρ undefined" if rho is None else f"ρ = {rho:.2f}".replace("-", "\N{MINUS SIGN}")
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)
    finish(axes, title, x=INDICATORS[column], y="rate shift")
