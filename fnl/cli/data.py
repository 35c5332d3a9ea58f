"""`fnl data …`: corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fnl.cli.options import Assignments, Workers

data_app = typer.Typer(help="Prepare and describe a corpus.", no_args_is_help=True)


@data_app.command("prepare")
def data_prepare(
    assignments: Assignments = None,
    workers: Workers = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch Speech Commands v0.02 into data.root.")
    ] = False,
) -> None:
    """Compute and cache features and the partitioning; download only when asked."""
    from fnl.cli import run as commands  # noqa: PLC0415 heavy imports only where they are used

    commands.data_prepare(assignments or [], workers=workers, download=download)


@data_app.command("describe")
def data_describe(
    assignments: Assignments = None,
    workers: Workers = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw who has what into this file (png, svg, pdf).")
    ] = None,
) -> None:
    """Print who has what: clips, speakers and labels of every client."""
    from fnl.cli import run as commands  # noqa: PLC0415 heavy imports only where they are used

    commands.data_describe(assignments or [], workers=workers, figure=figure)
