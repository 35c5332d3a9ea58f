"""How all figures look, how panels are laid out on a page, and how figures are saved.

Series differ in line style and marker as well as in colour (Okabe and Ito's palette), so a figure
reads in grey and for colour-blind readers. Nothing here needs a display or `pyplot` state.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from fnl.errors import RunError, saying_why
from fnl.runtime.atomic import write_atomically

Columns = Literal[1, 2]
Panel = Callable[[Axes], None]

WIDTH_INCHES: dict[Columns, float] = {1: 3.5, 2: 7.16}
"""Widths of one and of two columns of a two-column paper."""
FORMATS = ("png", "svg", "pdf")
PNG_DPI = 300

_PANEL_INCHES = 2.05
_TITLE_POINTS, _TEXT_POINTS, _SMALL_POINTS = 9.0, 8.0, 7.0
_LINE_SPACING = 1.3
_MARGIN_INCHES = 0.06
_LETTERS_PER_INCH = {"bold": 14.5, "normal": 19.0}
"""Of the heading's two sizes; generous, so that no line runs off the page."""
_LEGEND_LETTERS = 62
"""That fit above the narrowest panel, of which a line and its gaps take `_HANDLE_LETTERS`."""
_HANDLE_LETTERS = 9
_MUTED = "0.35"
_NO_DATE = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Look:
    """Colour, line style and marker of a series: each alone tells series apart."""

    colour: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str


MAIN = Look("#0072B2", "-", "o")
SHADOW = Look("#D55E00", (0, (4, 1.5)), "s")
THIRD = Look("#222222", (0, (1, 1.2)), "^")
FOURTH = Look("#E69F00", (0, (5, 1.2, 1, 1.2)), "D")
LOOKS = (MAIN, SHADOW, THIRD, FOURTH)


@contextmanager
def style() -> Iterator[None]:
    """Apply the shared style to what is drawn or saved inside, and to nothing else."""
    settings: dict[Any, Any] = {
        # whatever a matplotlibrc or a notebook has set: the same figure is the same file
        **{key: value for key, value in mpl.rcParamsDefault.items() if "backend" not in key},
        "text.parse_math": False,  # a `$` in a label or a name is a `$`
        **sns.axes_style("ticks"),
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
        "font.size": _TEXT_POINTS,
        "axes.titlesize": _TEXT_POINTS,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": _TEXT_POINTS,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "0.9",
        "grid.linewidth": 0.5,
        "xtick.labelsize": _SMALL_POINTS,
        "ytick.labelsize": _SMALL_POINTS,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.2,
        "legend.fontsize": _SMALL_POINTS,
        "pdf.fonttype": 42,  # fonts are embedded as TrueType, text stays text
        "svg.fonttype": "none",
        "svg.hashsalt": "fnl",  # the same figure is the same file
    }
    with mpl.rc_context(settings):
        yield


@dataclass(frozen=True)
class Sheet:
    """A figure that is to be drawn: panels under a heading.

    Attributes:
        title: first line of the heading.
        panels: each draws into the axes it is given.
        notes: sentences below the title, each starting a line; long ones are wrapped.
        panel_inches: height of a row of panels.
    """

    title: str
    panels: Sequence[Panel]
    notes: Sequence[str] = ()
    panel_inches: float = _PANEL_INCHES

    def draw(self, columns: Columns = 2, about: Sequence[str] = ()) -> Figure:
        """Return the figure, without a display; save it with `save`, which keeps the style.

        Args:
            columns: width of the figure in columns of a paper. In one, panels are below each
                other, in two side by side.
            about: what was run: sentences between title and notes.
        """
        width = WIDTH_INCHES[columns]
        titles = _wrap(self.title, width * _LETTERS_PER_INCH["bold"])
        letters = width * _LETTERS_PER_INCH["normal"]
        lines = [line for sentence in (*about, *self.notes) for line in _wrap(sentence, letters)]
        across = min(columns, len(self.panels))
        down = -(-len(self.panels) // across)
        title_inches = len(titles) * _TITLE_POINTS * _LINE_SPACING / 72
        notes_inches = len(lines) * _SMALL_POINTS * _LINE_SPACING / 72
        heading = 2 * _MARGIN_INCHES + title_inches + notes_inches
        height = heading + down * self.panel_inches
        rect = (0, 0, 1, 1 - heading / height)
        with style():
            engine = ConstrainedLayoutEngine(
                rect=rect, h_pad=0.05, w_pad=0.05, hspace=0.04, wspace=0.04
            )
            figure = Figure(figsize=(width, height), layout=engine)
            grid = list(figure.subplots(down, across, squeeze=False).flat)
            for axes, panel in zip(grid, self.panels, strict=False):
                panel(axes)
            for axes in grid[len(self.panels) :]:
                axes.remove()
            left, top = _MARGIN_INCHES / width, 1 - _MARGIN_INCHES / height
            looks: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": _LINE_SPACING}
            bold = {"weight": "bold", "size": _TITLE_POINTS}
            figure.text(left, top, "\n".join(titles), **bold, **looks)
            below, muted = top - title_inches / height, {"color": _MUTED, "size": _SMALL_POINTS}
            figure.text(left, below, "\n".join(lines), **muted, **looks)
        return figure


PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Formatter of a logarithmic axis: matplotlib's own writes mathematics, which is text here."""
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.3g}%")
"""Formatter of an axis of shares."""


def finish(axes: Axes, title: str, *, x: str, y: str) -> None:
    """Give a panel its title, axis labels and, above the data, its legend.

    Series whose label starts with an underscore are not in the legend, as matplotlib has it. A
    panel into which no number was drawn says so instead of staying empty.
    """
    handles, labels = axes.get_legend_handles_labels()
    rows = 0
    if labels:
        fit = _legend_columns(labels)
        rows = -(-len(labels) // fit)
        axes.legend(
            handles,
            labels,
            ncols=fit,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            borderpad=0,
            handlelength=2.6,
            columnspacing=1.2,
            handletextpad=0.5,
            labelspacing=0.3,
            frameon=False,
        )
    axes.set_title(title, pad=4 + rows * _SMALL_POINTS * 1.35 + (2 if rows else 0))
    axes.set(xlabel=x, ylabel=y)
    if not axes.has_data():
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", color=_MUTED)


def _legend_columns(labels: Sequence[str]) -> int:
    """Return how many entries of a legend fit beside each other above a panel, two at least."""
    if sum(map(len, labels)) + _HANDLE_LETTERS * len(labels) <= _LEGEND_LETTERS:
        return len(labels)
    return max(2, _LEGEND_LETTERS // (max(map(len, labels)) + _HANDLE_LETTERS))


def reference(axes: Axes, value: float, name: str) -> None:
    """Draw a horizontal reference line and name it beside the axes."""
    axes.axhline(value, color=_MUTED, linewidth=0.9, linestyle=(0, (6, 2)), label="_" + name)
    axes.annotate(
        name,
        xy=(1, value),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        size=_SMALL_POINTS,
        color=_MUTED,
        linespacing=1.05,
        annotation_clip=False,
    )


def start_at_zero(axes: Axes) -> None:
    """Let the y axis start at 0 and end with room for a marker above the largest value."""
    axes.set_ylim(0, max(axes.get_ylim()[1], axes.dataLim.y1) * 1.05)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, SVG and PDF, each atomically, and return the paths.

    Raises:
        RunError: if the folder cannot be made or written to.
    """
    paths = [folder / f"{name}.{format_}" for format_ in FORMATS]
    with saying_why(f"cannot write figures to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with style():
            for path, format_ in zip(paths, FORMATS, strict=True):
                write_atomically(path, lambda temporary, f=format_: _save_as(figure, temporary, f))
    return paths


def check_file(path: Path, output: Path | None = None) -> None:
    """Refuse, before any work, a path that `save_file` cannot write.

    Args:
        path: of the figure.
        output: a folder that the work makes.

    Raises:
        RunError: if its suffix is no format of figures, or its folder is not there.
    """
    folder = path.absolute().parent
    there = folder.is_dir() or (output is not None and folder == output.absolute())
    if path.suffix.removeprefix(".") not in FORMATS or not there:
        raise RunError(f"cannot draw {path}: give a .png, .svg or .pdf in a folder that exists")


def save_file(figure: Figure, path: Path) -> None:
    """Write a figure to one file, in the format of its suffix, atomically.

    Raises:
        RunError: if it cannot be written.
    """
    with saying_why(f"cannot write {path}"), style():
        write_atomically(path, lambda t: _save_as(figure, t, path.suffix.removeprefix(".")))


def _save_as(figure: Figure, path: Path, format_: str) -> None:
    figure.savefig(path, format=format_, dpi=PNG_DPI, metadata=_NO_DATE[format_])
    figure.set_layout_engine("none")  # the first format's layout serves all, and is the slow part


def _wrap(text: str, letters: float) -> list[str]:
    return textwrap.wrap(text, int(letters), break_on_hyphens=False)
