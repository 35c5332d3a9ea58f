"""Looks of ordered series: darker to lighter, so that their order shows without colour too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from experiments.figures.settings import levels_of
from experiments.figures.style import Look

MOST_SERIES = 6
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
SEQUENTIAL = "viridis"
"""Of heat maps: lightness rises evenly, so it reads in grey."""
CENTRED = "vlag"
"""Of heat maps of what has a middle: lightest there, blue below and red above."""

_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.2, 1, 1.2)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LIGHTEST = 0.82
"""Of the colour map: lighter ones vanish on white."""


def graded_looks(count: int) -> tuple[Look, ...]:
    """Return `count` looks, dark to light, each with its own line style and marker.

    Raises:
        ValueError: if `count` is more than can be told apart.
    """
    if count > MOST_SERIES:
        raise ValueError(f"{count} series cannot be told apart: at most {MOST_SERIES}")
    shades = colormaps[SEQUENTIAL](np.linspace(0, _LIGHTEST, max(count, 2)))
    return tuple(
        Look(to_hex(shade), line, marker)
        for shade, line, marker in zip(shades[:count], _LINES, _MARKERS, strict=False)
    )


def spread(levels: list[str], most: int = MOST_SERIES) -> list[str]:
    """Return at most `most` of the ordered `levels`: first, last, and evenly between."""
    if len(levels) <= most:
        return levels
    picked = np.unique(np.linspace(0, len(levels) - 1, most).round().astype(int))
    return [levels[index] for index in picked]


def by_level(
    table: pl.DataFrame, most: int = MOST_SERIES
) -> Iterator[tuple[str, Look, pl.DataFrame]]:
    """Yield at most `most` privacy levels of a table, their looks and their rows."""
    levels = spread(levels_of(table), most)
    for level, look in zip(levels, graded_looks(len(levels)), strict=True):
        yield level, look, table.filter(pl.col("level") == level)


def mean_with_interval(
    axes: Axes, rows: pl.DataFrame, x: str, y: str, look: Look, **options: Any
) -> None:
    """Draw `y` over `x` with bars from `low` to `high`, where a row has them."""
    mean = rows[y].to_numpy()
    low, high = (rows[end].fill_null(rows[y]).to_numpy() for end in ("low", "high"))
    axes.errorbar(
        rows[x].to_numpy(),
        mean,
        yerr=[(mean - low).clip(0), (high - mean).clip(0)],
        color=look.colour,
        marker=look.marker,
        **options,
    )
