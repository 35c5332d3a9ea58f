"""What `fnl figures` and `fnl report` do."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

_out = Console(soft_wrap=True, highlight=False)


def figures(directory: Path, output: Path | None) -> None:
    """Draw the figures of a run or a grid; print where they are and why others are not.

    Raises:
        RunError: if `directory` is neither, or the figures cannot be written.
    """
    from experiments.figures.draw import draw_directory  # noqa: PLC0415 seaborn takes a second

    paths, gaps = draw_directory(directory, output or directory / "figures")
    for path in paths:
        _out.print(f"figure {path}", markup=False)
    for gap in gaps:
        _out.print(f"left out {gap.name}: {gap.reason}", markup=False)


def report(directory: Path, output: Path | None) -> None:
    """Write the report of a run or a grid and print where it is.

    Raises:
        RunError: if `directory` is neither, or the report cannot be written.
    """
    from experiments.report.build import write_report  # noqa: PLC0415 seaborn takes a second

    path = write_report(directory, (output or directory / "report.html").absolute())
    _out.print(f"report {path}", markup=False)
