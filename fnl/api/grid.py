"""Many runs from one file, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from fnl.api.run import Run, open_run
from fnl.errors import ConfigError, RunError


def run_grid(
    file: str | Path,
    *,
    results_dir: str | Path = "results",
    workers: int = 1,
    ray_address: str = "",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    keep_stale: bool = False,
) -> Grid:
    """Run the cells of a grid file that are not finished; the same call goes on.

    Args:
        file: a grid file (TOML), see docs/grids.md.
        results_dir: the grid's directory is made in here.
        workers: cells side by side on this machine.
        ray_address: a running Ray cluster, host:port; default: this machine.
        overrides: flat keys laid over the file's base, such as `{"run.rounds": 2}`.
        progress: whether to show progress.
        keep_stale: keep cells that other code has made, instead of running them anew.

    Raises:
        fnl.FnlError: if the file is wrong, or cells failed; the others are finished all the same.
    """
    from experiments.grid.driver import run_grid
    from experiments.grid.tables import write_tables
    from fnl.console import plain_console

    if not isinstance(file, str | Path):
        raise ConfigError(
            f"fnl.run_grid takes the path of a grid file, not a {type(file).__name__}: write it as "
            "TOML, see docs/grids.md; functions are named in it as module:function"
        )
    directory, _, failed = run_grid(
        Path(file),
        overrides=dict(overrides or {}),
        results=Path(results_dir),
        workers=workers,
        ray_address=ray_address,
        console=plain_console(stderr=True, quiet=not progress),
        keep_stale=keep_stale,
    )
    write_tables(directory)
    if failed:
        listed = "; ".join(f"{cell}: {reason}" for cell, reason in sorted(failed.items()))
        raise RunError(f"{len(failed)} cells of {directory.path} failed: {listed}")
    return Grid(directory.path)


def open_grid(path: str | Path) -> Grid:
    """Return the grid in a directory, whose cells may still be running.

    Raises:
        fnl.FnlError: if it is no grid's directory.
    """
    return Grid(Path(path))


class Grid:
    """A grid of runs and their tables.

    Args:
        path: its directory.

    Raises:
        fnl.FnlError: if it is no grid's directory.
    """

    def __init__(self, path: Path) -> None:
        from experiments.grid.directory import GridDirectory

        self._directory = GridDirectory.open(path)
        self.path = path.expanduser().absolute()

    @cached_property
    def cells(self) -> pl.DataFrame:
        """One row a cell: its settings, status and directory."""
        return self._table("cells")

    @cached_property
    def results(self) -> pl.DataFrame:
        """The rounds of all cells, with the settings of each."""
        return self._table("results")

    @cached_property
    def summary(self) -> pl.DataFrame:
        """Means over seeds with intervals, and differences from the baseline with p-values."""
        return self._table("summary")

    def run(self, cell: str) -> Run:
        """Return the run of one cell, by its id in `cells`.

        Raises:
            fnl.FnlError: if the grid has no such cell, or it has not begun.
        """
        if cell not in {known.id for known in self._directory.manifest().cells}:
            raise RunError(f"the grid {self.path} has no cell {cell!r}: its `cells` has their ids")
        return open_run(self._directory.cells / cell)

    def figures(self, output: str | Path | None = None) -> list[Path]:
        """Draw the grid's figures as PNG, SVG and PDF, and return their paths."""
        from experiments.figures.draw import draw_directory

        return draw_directory(self.path, Path(output or self.path / "figures"))[0]

    def report(self, output: str | Path | None = None) -> Path:
        """Write one HTML page about the grid, and return its path."""
        from experiments.report.build import write_report

        return write_report(self.path, Path(output or self.path / "report.html").absolute())

    def __repr__(self) -> str:
        return f"Grid({str(self.path)!r}, {len(self.cells)} cells)"

    def _table(self, name: str) -> pl.DataFrame:
        from experiments.grid.tables import write_tables
        from fnl.runtime.table_reading import read_parquet

        write_tables(self._directory)
        return read_parquet(self.path / f"{name}.parquet")
