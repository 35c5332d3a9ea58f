"""What a drawn figure shows: its panels, their titles, lines and legends, and its heading."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.catalogue import Entry


def named(entries: Iterable[Entry], name: str) -> Figure:
    """Return the figure of this name in two columns."""
    return next(entry for entry in entries if entry.name == name).sheet().draw()


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def panel(figure: Figure, title: str) -> Axes:
    """Return the panel whose title starts with `title`."""
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def series(axes: Axes, label: str) -> np.ndarray:
    """Return the points [n, 2] of the line with this label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_xydata())


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def heading(figure: Figure) -> str:
    """Return title and notes as one line."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())
