"""Consoles that print text as it is: a path or a label is never read as markup or an emoji."""

from __future__ import annotations

from rich.console import Console


def plain_console(
    *, stderr: bool = False, quiet: bool = False, width: int | None = None
) -> Console:
    """Return a console that wraps nothing, colours nothing by itself and interprets nothing."""
    return Console(
        stderr=stderr,
        quiet=quiet,
        width=width,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
        force_jupyter=False,
    )
