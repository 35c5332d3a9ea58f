"""Accuracy against the privacy budget, with intervals over seeds, and the non-private twin."""

from __future__ import annotations

from functools import partial

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from experiments.figures.accuracy_panels import accuracy_panels, said_of_seeds
from experiments.figures.catalogue import need
from experiments.figures.looks import MOST_SERIES, graded_looks, mean_with_interval
from experiments.figures.settings import CLIP_NORM, EPSILON, independent, short, show
from experiments.figures.style import PLAIN, Sheet, finish, reference


def accuracy_against_epsilon(summary: pl.DataFrame, *, chance: float | None = None) -> Sheet:
    """Draw the mean accuracy over seeds and its 95 % interval against ε.

    C, else the axis with the fewest values, gives the lines of a panel, the others' combinations
    the panels.

    Args:
        summary: a grid's `summary.parquet`.
        chance: accuracy of guessing, drawn as a line; None: not known.

    Raises:
        LeftOut: if ε is no axis, or the summary has no accuracy.
    """
    need(summary, [EPSILON, "metric", "mean"], of="the grid's summary")
    accuracy = summary.filter(metric="accuracy")
    rows = accuracy.filter(~pl.col("is_twin"))
    rows = need(rows, [EPSILON, "mean"], of="the grid's summary of accuracy")
    line, keys = _split_axes(rows)
    means = pl.concat([rows, accuracy.filter("is_twin")])
    draw = partial(_panel, line, chance)
    panels, notes = accuracy_panels(rows, keys, means, draw, chance=chance)
    return Sheet("Accuracy against the privacy budget", panels, [said_of_seeds(rows), *notes])


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


def _panel(
    line: str | None, chance: float | None, means: pl.DataFrame, title: str, axes: Axes
) -> None:
    rows, twins = means.filter(~pl.col("is_twin")), means.filter("is_twin")
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
        label = "_accuracy" if line is None else f"{short(line)} = {show(value)}"
        bars = {"linestyle": look.line, "capsize": 2, "elinewidth": 0.8, "label": label}
        mean_with_interval(axes, points.sort(EPSILON), EPSILON, "mean", look, **bars)
    epsilons = rows[EPSILON].unique().sort().to_list()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(epsilons))
    axes.xaxis.set_major_formatter(PLAIN)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(epsilons[0] / 1.25, epsilons[-1] * 1.25)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    finish(axes, title, x="ε", y="accuracy")
