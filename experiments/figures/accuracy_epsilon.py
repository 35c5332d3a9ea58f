"""Accuracy against the privacy budget, with intervals over seeds, and the non-private twin."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.figures.catalogue import need
from experiments.figures.looks import MOST_SERIES, graded_looks, mean_with_interval
from experiments.figures.settings import (
    CLIP_NORM,
    EPSILON,
    described,
    independent,
    main_product,
    short,
    show,
)
from experiments.figures.style import PERCENT, Panel, Sheet, finish
from experiments.grid.statistics import FEWEST

MOST_PANELS = 8
_TITLE_LETTERS = 44
"""That fit above a panel, of two side by side."""


def accuracy_against_epsilon(summary: pl.DataFrame, *, metric: str = "accuracy") -> Sheet:
    """Draw a metric's mean over seeds and its 95 % interval against ε.

    C, else the axis with the fewest values, gives the lines of a panel, the others' combinations
    the panels. Where most cells lie in one of these, the others are titled by what differs from it.

    Args:
        summary: a grid's `summary.parquet`.
        metric: of the summary.

    Raises:
        LeftOut: if ε is no axis, or the summary has no such metric.
    """
    need(summary, [EPSILON, "metric", "mean"], of="the grid's summary")
    of_metric = summary.filter(metric=metric)
    rows = of_metric.filter(~pl.col("is_twin"))
    rows = need(rows, [EPSILON, "mean"], of=f"the grid's summary of {metric}")
    twins = of_metric.filter("is_twin")
    lines, panel_keys = _split_axes(rows)
    values = rows.select(panel_keys).unique(maintain_order=True).rows() if panel_keys else [()]
    usual = main_product(rows, panel_keys)
    panels: list[Panel] = []
    limits = shared_limits(of_metric)
    for value in values[:MOST_PANELS]:
        chosen = dict(zip(panel_keys, value, strict=True))
        drawn = _where(rows, chosen), _where(twins, chosen)
        panels.append(_panel(drawn, lines, _title(chosen, usual), metric, limits))
    notes = [said_of_seeds(rows)]
    if usual:
        notes.append(f"Where a panel says nothing else: {described(usual)}.")
    if len(values) > MOST_PANELS:
        notes.append(f"{len(values) - MOST_PANELS} further combinations of axes are not drawn.")
    return Sheet(f"{_words(metric).capitalize()} against the privacy budget", panels, notes)


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _title(chosen: Mapping[str, object], usual: Mapping[str, object] | None) -> str:
    """Return what a panel shows: all its values, or those that differ from the usual ones."""
    if usual is None:
        return textwrap.fill(described(chosen), _TITLE_LETTERS)
    differing = {key: value for key, value in chosen.items() if value != usual[key]}
    return textwrap.fill(described(differing) or "The grid's product", _TITLE_LETTERS)


def _split_axes(rows: pl.DataFrame) -> tuple[str | None, list[str]]:
    """Return the axis whose values are lines of a panel, and those that make panels."""
    keys = [key for key in rows.columns if "." in key and key != EPSILON]
    axes = independent(rows, [EPSILON, *sorted(keys, key=lambda key: key != CLIP_NORM)])
    counts = {key: rows[key].n_unique() for key in keys if key in axes}
    bound = CLIP_NORM if counts.get(CLIP_NORM, MOST_SERIES + 1) <= MOST_SERIES else None
    varied = sorted(
        (key for key, count in counts.items() if count > 1),
        key=lambda key: (key != bound, counts[key], key),
    )
    if not varied or counts[varied[0]] > MOST_SERIES:
        return None, varied
    return varied[0], varied[1:]


def _where(table: pl.DataFrame, values: Mapping[str, object]) -> pl.DataFrame:
    """Return rows with these values; a twin, which has no privacy keys, matches any of them."""
    for key, value in values.items():
        same = pl.col(key).eq_missing(pl.lit(value))
        table = table.filter(same | (pl.col("is_twin") & pl.col(key).is_null()))
    return table


def said_of_seeds(rows: pl.DataFrame) -> str:
    """Return what lines and bars over seeds are, from the numbers of seeds `n`."""
    low, high = rows["n"].min(), rows["n"].max()
    seeds = "1 seed" if high == 1 else f"{low if low == high else f'{low} to {high}'} seeds"
    if rows["low"].count():
        return f"{seeds} a point. Lines: mean; bars and bands: 95 % interval over seeds."
    return f"{seeds} a point. Lines: mean; no interval, which needs {FEWEST} seeds."


def shared_limits(rows: pl.DataFrame) -> tuple[float, float]:
    """Return the ends of a scale that panels share, of means and their intervals."""
    ends = [rows[name].drop_nulls().to_numpy() for name in ("mean", "low", "high")]
    values = np.concatenate(ends)
    margin = 0.05 * float(np.ptp(values)) or 0.05 * abs(float(values[0])) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _panel(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
    line: str | None,
    title: str,
    metric: str,
    limits: tuple[float, float],
) -> Panel:
    rows, twins = drawn

    def draw(axes: Axes) -> None:
        bands = twins.drop_nulls("mean").unique(["mean", "low", "high"], maintain_order=True)
        for place, (mean, low, high) in enumerate(bands.select("mean", "low", "high").iter_rows()):
            name = "_no DP" if place else "no DP"
            axes.axhline(mean, color="0.35", linestyle=(0, (6, 2)), label=name)
            if low is not None and high is not None:
                axes.axhspan(low, high, color="0.5", alpha=0.18, linewidth=0)
        values = rows[line].unique().sort().to_list() if line else [None]
        for value, look in zip(values, graded_looks(len(values)), strict=True):
            points = rows if line is None else rows.filter(pl.col(line).eq_missing(pl.lit(value)))
            label = f"_{metric}" if line is None else f"{short(line)} = {show(value)}"
            bars = {"linestyle": look.line, "capsize": 2, "elinewidth": 0.8, "label": label}
            mean_with_interval(axes, points.sort(EPSILON), EPSILON, "mean", look, **bars)
        epsilons = rows[EPSILON].unique().sort().to_list()
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(epsilons))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(epsilons[0] / 1.25, epsilons[-1] * 1.25)
        axes.set_ylim(limits)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if metric == "accuracy":
            axes.yaxis.set_major_formatter(PERCENT)
        finish(axes, title, x="ε", y=_words(metric))

    return draw
