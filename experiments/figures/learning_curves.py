"""Accuracy over the rounds of a grid's cells, a line a privacy level, with intervals over seeds."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.accuracy_panels import accuracy_panels, said_of_seeds
from experiments.figures.catalogue import need
from experiments.figures.looks import by_level
from experiments.figures.panel_kinds import over_rounds
from experiments.figures.settings import LEVEL_KEYS, independent
from experiments.figures.style import Sheet, finish, reference
from experiments.grid.statistics import seed_interval


def learning_curves(values: pl.DataFrame, *, chance: float | None = None) -> Sheet:
    """Draw the mean accuracy over seeds in each round, a line a privacy level.

    What else varies makes the panels; a twin is drawn in each to whose settings it belongs.

    Args:
        values: `cell`, `seed`, `round`, `accuracy`, `is_twin`, `level`, `level_order` and the
            varied keys, a row a round of a finished cell.
        chance: of guessing, drawn as a line; None: not known.

    Raises:
        LeftOut: if there is no value.
    """
    rows = need(values, ["round", "accuracy"], of="the table of rounds")
    private = rows.filter(~pl.col("is_twin"))
    keys = [key for key in rows.columns if "." in key and private[key].n_unique() > 1]
    levels = [key for key in keys if key in LEVEL_KEYS]
    keys = [key for key in keys if len(independent(private, [*levels, key])) > len(levels)]
    means = _over_seeds(rows, keys)
    panels, notes = accuracy_panels(private, keys, means, partial(_panel, chance), chance=chance)
    return Sheet("Accuracy over the rounds", panels, [said_of_seeds(means), *notes])


def _over_seeds(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Return mean, `low`, `high` and `n` over seeds, of each setting, level and round."""
    by = [*keys, "is_twin", "level", "level_order", "round"]
    means = rows.group_by(by, maintain_order=True).agg(
        pl.col("accuracy"), mean=pl.col("accuracy").mean(), n=pl.col("seed").n_unique()
    )
    ends = [seed_interval(np.array([sample], float)) for sample in means["accuracy"].to_list()]
    low, high = (pl.Series([float(end[side][0]) for end in ends]) for side in (0, 1))
    return means.with_columns(low=low.fill_nan(None), high=high.fill_nan(None)).sort("round")


def _panel(chance: float | None, means: pl.DataFrame, title: str, axes: Axes) -> None:
    for level, look, rows in by_level(means):
        over_rounds(axes, rows, "mean", look, label=level, bridge=True)
        known = rows.drop_nulls("low")
        x, low, high = (known[name].to_numpy() for name in ("round", "low", "high"))
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
    if chance is not None:
        reference(axes, chance, "chance")
    finish(axes, title, x="round", y="accuracy")
