"""Panels of accuracy, one a setting of a grid: their titles, their shared scale, what is said."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from experiments.figures.settings import described, main_product, of_setting
from experiments.figures.style import PERCENT, Panel
from experiments.grid.statistics import FEWEST

MOST_PANELS = 8
_TITLE_LETTERS = 44
"""That fit above a panel, of two side by side."""

Draw = Callable[[pl.DataFrame, str, Axes], None]
"""Draws the rows of one setting, under a title, into axes."""


def accuracy_panels(
    private: pl.DataFrame,
    keys: Sequence[str],
    means: pl.DataFrame,
    draw: Draw,
    *,
    chance: float | None,
) -> tuple[list[Panel], list[str]]:
    """Return a panel a setting of `keys`, all of one scale, and sentences on what they show.

    Where most cells lie in one setting, the others are titled by what differs from it.

    Args:
        private: rows whose settings are drawn, with a column for each varied key.
        keys: whose combinations make the panels.
        means: `mean`, `low` and `high` by setting; a twin is drawn in each panel that it fits.
        draw: a setting's rows of `means`.
        chance: accuracy of guessing, which the scale has on it; None: not known.
    """
    settings = private.select(keys).unique(maintain_order=True).to_dicts() if keys else [{}]
    usual = main_product(private, keys)
    limits = _limits(means, chance)
    panels: list[Panel] = [
        partial(_panel, draw, of_setting(means, setting), _title(setting, usual), limits)
        for setting in settings[:MOST_PANELS]
    ]
    notes = []
    if usual:
        notes.append(f"Where a panel says nothing else: {described(usual)}.")
    if (left := len(settings) - MOST_PANELS) > 0:
        notes.append(f"{left} further combinations of axes are not drawn.")
    return panels, notes


def said_of_seeds(rows: pl.DataFrame) -> str:
    """Return what lines and bars over seeds are, from the numbers of seeds `n`."""
    low, high = rows["n"].min(), rows["n"].max()
    seeds = "1 seed" if high == 1 else f"{low if low == high else f'{low} to {high}'} seeds"
    if rows["low"].count():
        return f"{seeds} a point. Lines: mean; bars and bands: 95 % interval over seeds."
    return f"{seeds} a point. Lines: mean; no interval, which needs {FEWEST} seeds."


def _title(setting: Mapping[str, object], usual: Mapping[str, object] | None) -> str:
    """Return what a panel shows: all its values, or those that differ from the usual ones."""
    differing = {k: value for k, value in setting.items() if not usual or value != usual[k]}
    title = described(differing) or ("The grid's product" if usual else "")
    return textwrap.fill(title, _TITLE_LETTERS)


def _limits(means: pl.DataFrame, chance: float | None) -> tuple[float, float]:
    """Return the ends of a scale that panels share, of means and intervals, and of what can be."""
    ends = [means[name].drop_nulls().to_numpy() for name in ("mean", "low", "high")]
    values = np.concatenate(ends)
    if chance is not None:  # an interval may end where no value can be
        values = np.append(values.clip(chance, 1.0), chance)
    margin = 0.05 * float(np.ptp(values)) or 0.05 * abs(float(values[0])) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _panel(
    draw: Draw, rows: pl.DataFrame, title: str, limits: tuple[float, float], axes: Axes
) -> None:
    axes.set_ylim(limits)
    axes.yaxis.set_major_formatter(PERCENT)
    draw(rows, title, axes)
