"""All figures of a directory, whether it is a run's or a grid's: what `fnl figures` does."""

from __future__ import annotations

from pathlib import Path

from experiments.figures.catalogue import Gap, draw_all, save_all
from experiments.figures.grid_tables import is_grid, read_grid
from experiments.figures.of_grid import of_grid
from experiments.figures.of_run import of_run
from experiments.figures.run_tables import read_tables


def draw_directory(directory: Path, output: Path) -> tuple[list[Path], list[Gap]]:
    """Draw the figures of a run or a grid into `output`; return the files and what was left out.

    Args:
        directory: of a run, which may still be running or have failed, or of a grid.
        output: folder for the figures, made if missing.

    Raises:
        RunError: if `directory` is neither or has nothing to draw, or `output` cannot be written.
    """
    if is_grid(directory):
        grid = read_grid(directory)
        drawn, gaps = draw_all(of_grid(grid), grid.describe())
    else:
        run = read_tables(directory)
        drawn, gaps = draw_all(of_run(run), run.describe())
    return save_all(drawn, output), gaps
