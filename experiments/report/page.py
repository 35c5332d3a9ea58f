"""The page: what is in it, and how it becomes one HTML file.

Everything is inside the file: style, script and figures. Its content security policy forbids any
request, and every text is escaped by the template.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.figures.catalogue import Drawn, Gap
from experiments.figures.style import style

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Finding:
    """A headline finding: its name, its number, and the sentence that qualifies it."""

    name: str
    number: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and by what it is sorted where it is a number."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, what it means, and whether it holds numbers."""

    name: str
    meaning: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        title: heading.
        note: below it: what the rows are, and what was left out.
        columns: headings.
        rows: of cells.
    """

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A part of the page about one question.

    Attributes:
        name: of its anchor.
        title: heading.
        sentences: a paragraph each.
        figures: drawn.
        tables: sortable.
    """

    name: str
    title: str
    sentences: Sequence[str]
    figures: Sequence[Drawn]
    tables: Sequence[Table]


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        title: of the page.
        kind: "run" or "grid".
        status: one line; `troubled` if it is not that all went to its end.
        troubled: see there.
        facts: what was run: name and value.
        findings: headline findings.
        figures: drawn.
        gaps: figures that were left out.
        tables: sortable.
        guarantee: of privacy: name and one or several statements.
        commands: what reproduces it.
        notes: on reproducing.
        files: further texts that were run (a grid file): name and content.
        configuration: key, value and whether it differs from the default.
        sections: further ones, of some runs and grids only.
    """

    title: str
    kind: str
    status: str
    troubled: bool
    facts: Mapping[str, str]
    findings: Sequence[Finding]
    figures: Sequence[Drawn]
    gaps: Sequence[Gap]
    tables: Sequence[Table]
    guarantee: Mapping[str, Sequence[str]]
    commands: Sequence[str]
    notes: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    configuration: Sequence[tuple[str, str, bool]] = ()
    sections: Sequence[Section] = ()


def render(report: Report) -> str:
    """Return the report as one HTML document."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        style=Markup(_read("page.css")),  # noqa: S704 our own file
        script=Markup(_read("sort.js")),  # noqa: S704 our own file
        image=image,
    )


def image(figure: Figure) -> str:
    """Return a figure as an SVG data address; its letters are outlines, so no font is needed."""
    buffer = io.BytesIO()
    with style(), mpl.rc_context({"svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
