"""`fnl grid …`: many runs from one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fnl.cli.options import Assignments

grid_app = typer.Typer(help="Run many runs from one grid file.", no_args_is_help=True)


@grid_app.command("run")
def grid_run(  # noqa: PLR0917 typer's options are parameters
    file: Annotated[Path, typer.Argument(help="A grid file (TOML), see docs/grids.md.")],
    results_dir: Annotated[Path, typer.Option(help="The grid's directory is made in here.")] = Path(
        "results"
    ),
    workers: Annotated[int, typer.Option(min=0, help="Cells side by side; 0: one a core.")] = 0,
    ray_address: Annotated[
        str, typer.Option(help="A running Ray cluster, host:port; default: this machine.")
    ] = "",
    assignments: Assignments = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and count its cells, run nothing.")
    ] = False,
) -> None:
    """Run the cells of a grid file that are not finished; the same command goes on."""
    from fnl.cli import grid_commands as commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.run(
        file,
        results=results_dir,
        workers=workers or (os.cpu_count() or 1),
        ray_address=ray_address,
        assignments=assignments or [],
        dry_run=dry_run,
    )


@grid_app.command("tables")
def grid_tables(
    directory: Annotated[Path, typer.Argument(help="A grid's directory.")],
    csv: Annotated[bool, typer.Option("--csv", help="Also as CSV.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Also for LaTeX, with booktabs.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of the LaTeX tables; default: accuracy, firing_rate.")
    ] = None,
) -> None:
    """Write cells, results and summary of a grid, whose cells may still be running."""
    from fnl.cli import grid_commands as commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.tables(
        directory, csv=csv, latex=latex, metrics=metric or ["accuracy", "firing_rate"]
    )


@grid_app.command("status")
def grid_status(
    directory: Annotated[Path, typer.Argument(help="A grid's directory.")],
) -> None:
    """Print how every cell of a grid stands."""
    from fnl.cli import grid_commands as commands_grid  # noqa: PLC0415 heavy imports only where they are used

    commands_grid.status(directory)
