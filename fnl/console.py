"""Consoles that print text as it is, and never what would steer a terminal.

A path or a label is never read as markup or an emoji. What comes out of somebody's files or from a
client may hold a terminal's own commands, or turn the direction of a line round: each such
character is shown as one sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, other line ends, and marks of direction."""
_SHOWN = "\N{REPLACEMENT CHARACTER}"


def harmless(text: str) -> str:
    """Return `text` without what steers a terminal."""
    return _STEERS.sub(_SHOWN, text)


def on_one_line(text: str) -> str:
    """Return what somebody's file says, for a place of one line: none of it is a line of ours."""
    return " ".join(text.splitlines())


class _PlainConsole(Console):
    """Cleans texts before they are measured, and all else before it is written."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not _STEERS.search(segment.text):
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)


def plain_console(
    *, stderr: bool = False, quiet: bool = False, width: int | None = None
) -> Console:
    """Return a console that wraps nothing, colours nothing by itself and interprets nothing."""
    return _PlainConsole(
        stderr=stderr,
        quiet=quiet,
        width=width,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
        force_jupyter=False,
    )


def counting_bar(console: Console) -> Progress:
    """Return a bar: of what, how far, how many of how many, how long still; gone at its end."""
    what = TextColumn("{task.description}", markup=False)
    columns = what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)
