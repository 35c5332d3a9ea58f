"""All figures of a directory, whether it is a run's or a grid's: what `fnl figures` does."""

from __future__ import annotations

from pathlib import Path

from experiments.figures.catalogue import Gap, draw_all, save_all
from experiments.figures.grid_tables import is_grid, read_grid
from experiments.figures.of_grid import of_grid
from experiments.figures.of_run import features_of, of_clients
from experiments.figures.run_figures import draw_run
from experiments.figures.run_tables import read_tables
from fnl.runtime.run_directory import read_run


def draw_directory(directory: Path, output: Path) -> tuple[list[Path], list[Gap]]:
    """Draw the figures of a run or a grid into `output`; return the files and what was left out.

    Raises:
        RunError: if `directory` is neither, or `output` cannot be written.
    """
    if is_grid(directory):
        drawn, gaps = draw_all(of_grid(read_grid(directory)))
        return save_all(drawn, output), gaps
    paths = draw_run(directory, output)
    run, features = read_tables(directory), features_of(read_run(directory))
    drawn, gaps = draw_all(of_clients(run, directory, features))
    return paths + save_all(drawn, output), gaps
