"""Accuracy over the rounds of a grid's cells, a line a privacy level, with intervals over seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.accuracy_epsilon import notes_of, shared_limits
from experiments.figures.catalogue import need
from experiments.figures.looks import by_level
from experiments.figures.panel_kinds import over_rounds
from experiments.figures.settings import described, independent, main_product
from experiments.figures.style import PERCENT, Panel, Sheet, finish, reference
from experiments.grid.statistics import seed_interval

MOST_PANELS = 8
_TITLE_LETTERS = 44
_LEVEL_KEYS = ("privacy.epsilon", "privacy.noise-multiplier")


def learning_curves(
    values: pl.DataFrame, *, metric: str = "accuracy", chance: float | None = None
) -> Sheet:
    """Draw a metric's mean over seeds in each round, a line a privacy level.

    What else varies makes the panels, which share their scale; a twin is drawn in each to whose
    settings it belongs.

    Args:
        values: `cell`, `seed`, `round`, `value`, `is_twin`, `level`, `level_order` and the varied
            keys, a row a round of a finished cell.
        metric: what `value` is.
        chance: of guessing, drawn as a line; None: not known.

    Raises:
        LeftOut: if there is no value.
    """
    rows = need(values, ["round", "value"], of=f"the grid's {metric}")
    private = rows.filter(~pl.col("is_twin"))
    keys = [key for key in rows.columns if "." in key and private[key].n_unique() > 1]
    levels = [key for key in keys if key in _LEVEL_KEYS]
    keys = [key for key in keys if len(independent(private, [*levels, key])) > len(levels)]
    usual = main_product(private, keys)
    chosen = private.select(keys).unique(maintain_order=True).to_dicts() if keys else [{}]
    means = _over_seeds(rows, keys)
    limits = shared_limits(means, None if chance is None else (chance, 1.0))
    panels: list[Panel] = []
    for setting in chosen[:MOST_PANELS]:
        title = described({k: v for k, v in setting.items() if not usual or v != usual[k]})
        title = title or ("The grid's product" if usual else "")
        panels.append(
            partial(
                _panel,
                _where(means, setting),
                textwrap.fill(title, _TITLE_LETTERS),
                metric,
                (limits, chance),
            )
        )
    notes = notes_of(means, usual, len(chosen) - MOST_PANELS)
    return Sheet(f"{metric.replace('_', ' ').capitalize()} over the rounds", panels, notes)


def _over_seeds(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Return mean, `low`, `high` and `n` over seeds, of each setting, level and round."""
    by = [*keys, "is_twin", "level", "level_order", "round"]
    means = rows.group_by(by, maintain_order=True).agg(
        pl.col("value"), mean=pl.col("value").mean(), n=pl.col("seed").n_unique()
    )
    ends = [seed_interval(np.array([sample], float)) for sample in means["value"].to_list()]
    low, high = (pl.Series([float(end[side][0]) for end in ends]) for side in (0, 1))
    return means.with_columns(low=low.fill_nan(None), high=high.fill_nan(None)).sort("round")


def _where(means: pl.DataFrame, setting: Mapping[str, object]) -> pl.DataFrame:
    """Return rows of a setting; a twin, which has no privacy keys, is one of any of them."""
    for key, value in setting.items():
        same = pl.col(key).eq_missing(pl.lit(value))
        means = means.filter(same | (pl.col("is_twin") & pl.col(key).is_null()))
    return means


def _panel(
    means: pl.DataFrame,
    title: str,
    metric: str,
    scale: tuple[tuple[float, float], float | None],
    axes: Axes,
) -> None:
    limits, chance = scale
    for level, look, rows in by_level(means):
        over_rounds(axes, rows, "mean", look, label=level, bridge=True)
        known = rows.drop_nulls("low")
        axes.fill_between(
            known["round"].to_numpy(),
            known["low"].to_numpy(),
            known["high"].to_numpy(),
            color=look.colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_ylim(limits)
    if chance is not None:
        reference(axes, chance, "chance")
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, title, x="round", y=metric.replace("_", " "))
