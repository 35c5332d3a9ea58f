"""Play a grid file's private cells and say what survives: `python -m experiments.rankings FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from experiments.figures.style import check_file
from experiments.grid.cells import Cell, Grid, expand
from experiments.grid.grid_file import read_grid_file
from experiments.rankings.collapse import draw, points, summary
from experiments.rankings.measure import measured
from experiments.rankings.play import played
from experiments.rankings.tables import SEED, by_setting, markdown, of_estimates
from experiments.study import command
from fnl.runtime.atomic import write_atomically

SHOWN = ("highest-rate", "rate-difference", "rate-difference-signed", "update-norm")
"""Rules in the table of settings; `rankings.parquet` has all."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="grid file")
    parser.add_argument("--results-dir", type=Path, default=Path("results"))
    parser.add_argument("--figure", type=Path, help="draw the collapse: .png, .svg or .pdf")
    options = parser.parse_args(arguments)
    grid = expand(read_grid_file(options.file), options.file)
    folder = options.results_dir / grid.name
    if options.figure:
        check_file(options.figure, folder)
    rows = play_grid(grid, folder)
    settings = [key for key in grid.keys if key != SEED]
    found = points(rows, settings)
    for table in (
        by_setting(rows, settings, SHOWN),
        summary(found, settings),
        of_estimates(rows, settings),
    ):
        print(f"{markdown(table)}\n")
    if options.figure:
        draw(found, settings, options.figure)


def play_grid(grid: Grid, directory: Path) -> pl.DataFrame:
    """Return how rankings agree in every private cell, with its varied keys.

    The rows are written to `rankings.parquet`, too. A cell is played once: `rankings/` keeps what
    every rule said in it.
    """
    private = [cell for cell in grid.cells if cell.config.is_private]
    parts = []
    for number, cell in enumerate(private, start=1):
        parts.append(_rows(cell, grid.keys, directory / "rankings" / f"{cell.id}.parquet"))
        print(f"{number} of {len(private)} cells played", file=sys.stderr, flush=True)
    rows = pl.concat(parts, how="diagonal_relaxed")
    write_atomically(directory / "rankings.parquet", rows.write_parquet)
    return rows


def _rows(cell: Cell, keys: Sequence[str], path: Path) -> pl.DataFrame:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, played(cell.config).write_parquet)
    values = [pl.lit(cell.values[key]).alias(key) for key in keys]
    scores = pl.read_parquet(path).with_columns(*values)
    return measured(scores, keys, selected=cell.config.coordination.selected)


if __name__ == "__main__":
    sys.exit(main())
