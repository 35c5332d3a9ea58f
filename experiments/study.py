"""A study on the command line: its exit status, and its tables as Markdown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence

from fnl.errors import FnlError

Main = Callable[[Sequence[str] | None], None]


def command(main: Main) -> Callable[..., int]:
    """Let the `main` of a module return an exit status: 1 where its user can act on an error."""

    @functools.wraps(main)
    def status(arguments: Sequence[str] | None = None) -> int:
        try:
            main(arguments)
        except FnlError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return status


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(heads)}", *lines[1:]])


def p_value(value: float | None) -> str:
    """Return a p-value as a table has it; nothing where there was nothing to test."""
    return "" if value is None else f"{value:.2g}"
