"""`fnl grid …`: many runs from one file."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnl.cli.run_table import say_reasons, table_of
from fnl.cli.runs import summary
from fnl.cli.terminal import Assignments, cores, err, out
from fnl.console import on_one_line

if TYPE_CHECKING:
    from experiments.grid.directory import GridDirectory, Manifest

grid_app = typer.Typer(
    help="Run many runs from one grid file.", no_args_is_help=True, suggest_commands=False
)
Directory = Annotated[Path, typer.Argument(help="A grid's directory.")]


@grid_app.command()
def run(
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
        bool,
        typer.Option("--dry-run", help="List the cells and how long they will take; run none."),
    ] = False,
    keep_stale: Annotated[
        bool,
        typer.Option(
            "--keep-stale",
            help="Keep cells that other code has made, instead of running them anew.",
        ),
    ] = False,
) -> None:
    """Run the cells of a grid file that are not finished; the same command goes on."""
    from experiments.grid.driver import check_grid, estimate_grid, manifest_of, run_grid
    from experiments.grid.tables import write_tables
    from fnl.config import parse_overrides
    from fnl.errors import RunError

    overrides = parse_overrides(assignments or [])
    if dry_run:
        work = check_grid(file, overrides, results_dir, out, keep_stale=keep_stale)
        manifest = manifest_of(work.grid, file, overrides)
        _print_cells(work.directory, manifest, "a wider terminal has all")
        estimate_grid(work, cores(workers), out)
        return
    try:
        directory, finished, failed = run_grid(
            file,
            overrides=overrides,
            results=results_dir,
            workers=cores(workers),
            ray_address=ray_address,
            console=err,
            keep_stale=keep_stale,
        )
    except KeyboardInterrupt:
        err.print("interrupted: the same command goes on where it stopped")
        raise
    write_tables(directory)
    out.print(f"{finished} cells finished, {len(failed)} failed")
    out.print(f"grid directory {directory.path}")
    if failed:
        raise RunError(_failures(failed))


def _failures(failed: Mapping[str, str]) -> str:
    """Return why cells failed: each reason once, with its cell or how many they are."""
    cells: dict[str, list[str]] = {}
    for cell, reason in sorted(failed.items()):
        cells.setdefault(reason, []).append(cell)
    if len(cells) == 1 < len(failed):
        return f"{len(failed)} cells failed: {next(iter(cells))}"
    told = "; ".join(
        f"{those[0] if len(those) == 1 else f'{len(those)} cells'}: {reason}"
        for reason, those in cells.items()
    )
    return f"{len(failed)} cells failed: {told}"


@grid_app.command()
def tables(
    directory: Directory,
    csv: Annotated[bool, typer.Option("--csv", help="Also as CSV.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Also for LaTeX, with booktabs.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of the LaTeX tables; default: accuracy, firing_rate.")
    ] = None,
    pivot: Annotated[
        str, typer.Option(help="A key whose values are columns of the LaTeX tables.")
    ] = "",
) -> None:
    """Write cells, results and summary of a grid, whose cells may still be running."""
    from experiments.grid.directory import GridDirectory
    from experiments.grid.export import write_csv, write_latex
    from experiments.grid.tables import write_tables

    grid = GridDirectory.open(directory)
    written = write_tables(grid)
    if csv:
        written += write_csv(grid)
    if latex:
        written += write_latex(grid, metric or ["accuracy", "firing_rate"], pivot)
    for file in written:
        out.print(f"table {file}")


@grid_app.command()
def status(directory: Directory) -> None:
    """Print how every cell of a grid stands, and what came out."""
    from experiments.grid.directory import GridDirectory
    from experiments.grid.stale import said_of

    grid = GridDirectory.open(directory)
    manifest = grid.manifest()
    shown = f"`fnl runs {shlex.quote(str(directory))} --csv FILE` has all"
    stale, cells = _print_cells(grid, manifest, shown)
    if stale:
        out.print(said_of(stale, "stale, `fnl grid run` runs them again"))
    statuses = Counter(cell["status"] for cell in cells)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(statuses.items()))
    work = "a driver is at work" if grid.is_driven else "no driver is at work"
    out.print(on_one_line(f"grid {manifest.name}: {counted}; {work}"))


def _print_cells(
    grid: GridDirectory, manifest: Manifest, elsewhere: str
) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Print a row a cell; return those that other code has made, and all cells."""
    from experiments.grid.directory import PENDING
    from experiments.grid.stale import stale_cells
    from experiments.grid.tables import cell_table
    from fnl.runtime.run_record import DAMAGED

    stale = stale_cells((cell.id, grid.record(cell.id)) for cell in manifest.cells)
    cells = cell_table(grid, manifest).to_dicts()
    found = []
    for cell in cells:
        run = summary(grid.cells / cell["cell"])
        if cell["status"] == PENDING:
            run["error"] = None
        elif run["status"] == DAMAGED:  # its tables, not its record
            cell["status"] = DAMAGED
        found.append(
            run
            | {
                "name": cell["cell"] + (" (twin)" if cell["is_twin"] else ""),
                "status": cell["status"] + (", stale" if cell["cell"] in stale else ""),
                "seconds": cell["seconds"],
                "config": {key: cell[key] for key in manifest.keys},
            }
        )
    out.print(table_of(found, elsewhere=elsewhere))
    say_reasons(found)
    return stale, cells
