"""Which figures a run or a grid has; drawing many of them, and saying why others are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from experiments.figures.style import Columns, Sheet, save

COLUMNS: tuple[Columns, ...] = (2, 1)


class LeftOut(Exception):  # noqa: N818 a reason, not a failure
    """A figure cannot be drawn from this table; the message says what is absent."""


@dataclass(frozen=True)
class Entry:
    """A figure that a run or a grid may have.

    Attributes:
        name: of its files.
        caption: what it shows, a sentence for a reader who does not see it.
        sheet: makes it, or raises `LeftOut`.
    """

    name: str
    caption: str
    sheet: Callable[[], Sheet]


@dataclass(frozen=True)
class Drawn:
    """A figure in its two widths."""

    name: str
    caption: str
    figures: dict[Columns, Figure]


@dataclass(frozen=True)
class Gap:
    """A figure that was left out."""

    name: str
    reason: str


def draw_all(entries: Iterable[Entry], about: Sequence[str] = ()) -> tuple[list[Drawn], list[Gap]]:
    """Draw what can be drawn, in order, and say why the rest cannot.

    Args:
        entries: the figures.
        about: what was run, sentences under each title.
    """
    drawn: list[Drawn] = []
    gaps: list[Gap] = []
    for entry in entries:
        try:
            sheet = entry.sheet()
        except LeftOut as reason:
            gaps.append(Gap(entry.name, str(reason)))
        else:
            figures: dict[Columns, Figure] = {n: sheet.draw(n, about) for n in COLUMNS}
            drawn.append(Drawn(entry.name, entry.caption, figures))
    return drawn, gaps


def save_all(drawn: Iterable[Drawn], folder: Path) -> list[Path]:
    """Write each figure as PNG, SVG and PDF; the narrow one as `<name>-one-column`.

    Raises:
        RunError: if the folder cannot be written.
    """
    paths: list[Path] = []
    for one in drawn:
        for columns, figure in one.figures.items():
            paths += save(figure, folder, one.name if columns == 2 else f"{one.name}-one-column")
    return paths


def need(table: pl.DataFrame, columns: Sequence[str], *, of: str) -> pl.DataFrame:
    """Return the rows of `table` in which all `columns` have a value.

    Args:
        table: to draw.
        columns: that the figure needs.
        of: what the table is, for the message.

    Raises:
        LeftOut: if a column is missing, or no row has all of them.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise LeftOut(f"{of} has no {' nor '.join(missing)}")
    floats = [column for column in columns if table.schema[column].is_float()]
    rows = table.drop_nulls(list(columns)).drop_nans(floats)
    if not rows.height:
        empty = [column for column in columns if not table[column].count()] or list(columns)
        raise LeftOut(f"{of} has no value of {' and '.join(empty)}")
    return rows
