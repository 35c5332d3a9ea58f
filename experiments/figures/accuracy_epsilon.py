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
from experiments.figures.style import PERCENT, Panel, Sheet, finish, reference
from experiments.grid.statistics import FEWEST

MOST_PANELS = 8
_TITLE_LETTERS = 44
"""That fit above a panel, of two side by side."""


def accuracy_against_epsilon(
    summary: pl.DataFrame, *, metric: str = "accuracy", chance: float | None = None
) -> Sheet:
    """Draw a metric's mean over seeds and its 95 % interval against ε.

    C, else the axis with the fewest values, gives the lines of a panel, the others' combinations
    the panels. Where most cells lie in one of these, the others are titled by what differs from it.

    Args:
        summary: a grid's `summary.parquet`.
        metric: of the summary.
        chance: accuracy of guessing, drawn as a line; None: not known.

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
    limits = shared_limits(of_metric, None if chance is None else (chance, 1.0))
    for value in values[:MOST_PANELS]:
        chosen = dict(zip(panel_keys, value, strict=True))
        drawn = _where(rows, chosen), _where(twins, chosen)
        panels.append(_panel(drawn, lines, _title(chosen, usual), metric, (limits, chance)))
    notes = notes_of(rows, usual, len(values) - MOST_PANELS)
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
    line = varied.pop(0) if varied and counts[varied[0]] <= MOST_SERIES else None
    drawn = [key for key in (EPSILON, line) if key is not None]
    beside = {key for axis in drawn for key in keys if _together(rows, axis, key)}
    return line, [
        key
        for key in keys
        if key not in beside and any(_together(rows, axis, key) for axis in varied)
    ]


def _together(rows: pl.DataFrame, axis: str, key: str) -> bool:
    """Return whether two keys are one axis, or the same."""
    return axis == key or len(independent(rows, [axis, key])) == 1


def _where(table: pl.DataFrame, values: Mapping[str, object]) -> pl.DataFrame:
    """Return rows with these values; a twin, which has no privacy keys, matches any of them."""
    for key, value in values.items():
        same = pl.col(key).eq_missing(pl.lit(value))
        table = table.filter(same | (pl.col("is_twin") & pl.col(key).is_null()))
    return table


def notes_of(rows: pl.DataFrame, usual: Mapping[str, object] | None, left: int) -> list[str]:
    """Return what a figure of several panels says of them; `left`: how many are not drawn."""
    notes = [_said_of_seeds(rows)]
    if usual:
        notes.append(f"Where a panel says nothing else: {described(usual)}.")
    if left > 0:
        notes.append(f"{left} further combinations of axes are not drawn.")
    return notes


def _said_of_seeds(rows: pl.DataFrame) -> str:
    """Return what lines and bars over seeds are, from the numbers of seeds `n`."""
    low, high = rows["n"].min(), rows["n"].max()
    seeds = "1 seed" if high == 1 else f"{low if low == high else f'{low} to {high}'} seeds"
    if rows["low"].count():
        return f"{seeds} a point. Lines: mean; bars and bands: 95 % interval over seeds."
    return f"{seeds} a point. Lines: mean; no interval, which needs {FEWEST} seeds."


def shared_limits(
    rows: pl.DataFrame, within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the ends of a scale that panels share, of means and intervals, and of what can be."""
    ends = [rows[name].drop_nulls().to_numpy() for name in ("mean", "low", "high")]
    values = np.concatenate(ends)
    if within is not None:  # an interval may end where no value can be
        values = np.append(values.clip(*within), within[0])
    margin = 0.05 * float(np.ptp(values)) or 0.05 * abs(float(values[0])) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _panel(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
    line: str | None,
    title: str,
    metric: str,
    scale: tuple[tuple[float, float], float | None],
) -> Panel:
    rows, twins = drawn
    limits, chance = scale

    def draw(axes: Axes) -> None:
        values = rows[line].unique().sort().to_list() if line else [None]
        looks = graded_looks(len(values))
        bands = twins.drop_nulls("mean").unique(["mean", "low", "high"], maintain_order=True)
        for place, twin in enumerate(bands.iter_rows(named=True)):
            owner = twin[line] if line and bands.height > 1 else None
            colour = "0.35" if owner is None else looks[values.index(owner)].colour
            name = ("_" if place else "") + "no DP" if owner is None else f"no DP, {show(owner)}"
            axes.axhline(twin["mean"], color=colour, linestyle=(0, (6, 2)), label=name)
            if twin["low"] is not None and twin["high"] is not None:
                axes.axhspan(twin["low"], twin["high"], color=colour, alpha=0.15, linewidth=0)
        if chance is not None:
            reference(axes, chance, "chance")
        for value, look in zip(values, looks, strict=True):
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
