"""The rate shift against indicators of sparsity and of memory."""

from __future__ import annotations

import math
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


def shift_against_indicators(table: pl.DataFrame, *, point: str, independent: bool) -> Sheet:
    """Draw a panel an indicator that varies, with Spearman's ρ.

    Args:
        table: `rate_shift`, `level`, `level_order` and columns of `INDICATORS`, a row a point.
        point: what a point is, for the heading.
        independent: whether ρ gets an interval: rounds of one run follow from each other.

    Raises:
        LeftOut: if no shift was measured or no indicator varies.
    """
    rows = need(table, ["rate_shift", "level", "level_order"], of="the table of rate shifts")
    known = [column for column in INDICATORS if column in rows.columns]
    varying = [column for column in known if rows[column].drop_nulls().n_unique() > 1]
    if not varying:
        raise LeftOut("no indicator of sparsity or memory varies")
    panels = [partial(_panel, rows, column, independent) for column in varying[:MOST_PANELS]]
    interval = "In brackets its 95 % interval, the points taken as independent."
    dependent = "It has no interval: the points are not independent of each other."
    notes = [
        f"A point: {point}. ρ: Spearman's rank correlation over {rows.height} points.",
        interval if independent else dependent,
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


def rank_interval(rho: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of Spearman's ρ of so many independent points.

    Fisher's z with the variance (1 + ρ²/2) / (n − 3) of Bonett and Wright (2000), "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 65.
    """
    if count < 4 or abs(rho) == 1:
        return -1.0, 1.0
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (count - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _title(rows: pl.DataFrame, column: str, independent: bool) -> str:
    rho = rank_correlation(rows, column)
    if rho is None:
        return "ρ undefined"
    said = f"ρ = {rho:.2f}"
    if independent:
        low, high = rank_interval(rho, rows.drop_nulls([column, "rate_shift"]).height)
        said += f" [{low:.2f}, {high:.2f}]"
    return said.replace("-", "\N{MINUS SIGN}")


def _panel(rows: pl.DataFrame, column: str, independent: bool, axes: Axes) -> None:
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
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", useOffset=False)
    finish(axes, _title(rows, column, independent), x=INDICATORS[column], y="rate shift")
