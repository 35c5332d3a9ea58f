"""Drawing many figures: which were drawn, and why the others were not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments.figures.left_out import LeftOut
from experiments.figures.style import Columns, save

COLUMNS: tuple[Columns, ...] = (2, 1)


@dataclass(frozen=True)
class Entry:
    """A figure that a run or a grid may have.

    Attributes:
        name: of its files.
        caption: what it shows, a sentence for a reader who does not see it.
        draw: draws it for a width in columns, or raises `LeftOut`.
    """

    name: str
    caption: str
    draw: Callable[[Columns], Figure]


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


def draw_all(entries: Iterable[Entry]) -> tuple[list[Drawn], list[Gap]]:
    """Draw what can be drawn, in order, and say why the rest cannot."""
    drawn: list[Drawn] = []
    gaps: list[Gap] = []
    for entry in entries:
        try:
            figures: dict[Columns, Figure] = {width: entry.draw(width) for width in COLUMNS}
        except LeftOut as reason:
            gaps.append(Gap(entry.name, str(reason)))
        else:
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
