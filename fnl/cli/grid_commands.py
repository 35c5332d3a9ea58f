"""What `fnl grid …` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.grid.directory import GridDirectory
from experiments.grid.driver import check_grid, run_grid
from experiments.grid.export import TABLES, write_csv, write_latex
from experiments.grid.tables import write_tables
from fnl.config import parse_overrides
from fnl.errors import RunError

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


def run(
    file: Path,
    *,
    results: Path,
    workers: int,
    ray_address: str,
    assignments: Sequence[str],
    dry_run: bool,
) -> None:
    """Run a grid file's cells and write its tables.

    Raises:
        FnlError: if it cannot be run, or a cell failed.
    """
    overrides = parse_overrides(assignments)
    if dry_run:
        check_grid(file, overrides, results, _out)
        return
    try:
        result = run_grid(
            file,
            overrides=overrides,
            results=results,
            workers=workers,
            ray_address=ray_address,
            console=_err,
        )
    except KeyboardInterrupt:
        _err.print("interrupted: the same command goes on where it stopped")
        raise
    path = result.directory.path
    write_tables(result.directory)
    _out.print(f"{result.finished} cells finished, {len(result.failed)} failed")
    _out.print(f"grid directory {path}")
    if result.failed:
        listed = "; ".join(f"{cell}: {reason}" for cell, reason in sorted(result.failed.items()))
        raise RunError(f"{len(result.failed)} cells failed: {listed}")


def tables(path: Path, *, csv: bool, latex: bool, metrics: Sequence[str]) -> None:
    """Write a grid's tables and print where they are.

    Raises:
        FnlError: if `path` is not a grid's directory, or a table cannot be made.
    """
    directory = GridDirectory.open(path)
    write_tables(directory)
    written = [directory.path / f"{name}.parquet" for name in TABLES]
    if csv:
        written += write_csv(directory)
    if latex:
        written += write_latex(directory, metrics)
    for file in written:
        _out.print(f"table {file}")


def status(path: Path) -> None:
    """Print how every cell of a grid stands.

    Raises:
        RunError: if `path` is not a grid's directory.
    """
    directory = GridDirectory.open(path)
    manifest = directory.manifest()
    driven = directory.is_driven
    journal = directory.journal()
    table = Table("cell", *manifest.keys, "status", "seconds", box=None)
    statuses: Counter[str] = Counter()
    errors = []
    for cell in manifest.cells:
        record = directory.record(cell.id)
        standing = directory.standing(record, driven=driven)
        statuses[standing] += 1
        if record and record.get("error"):
            errors.append(f"{standing}: {cell.id}: {record['error']}")
        taken = journal.get(cell.id)
        table.add_row(
            cell.id + (" (twin)" if cell.is_twin else ""),
            *("" if value is None else str(value) for value in map(cell.values.get, manifest.keys)),
            standing,
            f"{taken.seconds:.1f}" if taken else "",
        )
    _out.print(table)
    for error in errors:
        _out.print(error, markup=False)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(statuses.items()))
    work = "a driver is at work" if driven else "no driver is at work"
    _out.print(f"grid {manifest.name}: {counted}; {work}")
