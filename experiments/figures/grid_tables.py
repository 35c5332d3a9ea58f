"""A grid's directory as figures and reports need it: its cells, tables and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.figures.settings import short, with_levels
from experiments.grid.directory import GridDirectory, record_of
from experiments.grid.summary import SEED
from experiments.grid.tables import scan_runs
from fnl.errors import RunError
from fnl.runtime.run_directory import FINISHED
from fnl.runtime.table_reading import readable
from fnl.runtime.tables import CLIENTS, LAYERS, ROUNDS

_MANIFEST = "grid.json"
_NEEDED = {
    "cells": ("cell", "seed", "is_twin", "twin", "status", "run", "seconds"),
    "results": ("cell", "seed", "round", "metric", "value"),
    "summary": ("is_twin", "metric", "n", "mean", "se", "low", "high"),
}
_SCHEMAS: Mapping[str, Mapping[str, type[pl.DataType]]] = {
    "rounds": ROUNDS,
    "clients": CLIENTS,
    "layers": LAYERS,
}


@dataclass(frozen=True)
class GridTables:
    """A grid's tables.

    Attributes:
        directory: where the grid lies.
        cells: a row a cell, with `level` and `level_order` (see `with_levels`).
        results: a row a (cell, round, metric), read when asked.
        summary: a row a (configuration, metric), with `level` and `level_order`.
        file: text of the grid file, where the directory has it.
        overrides: what `--set` laid over its base.
    """

    directory: Path
    cells: pl.DataFrame
    results: pl.LazyFrame
    summary: pl.DataFrame
    file: str | None
    overrides: Mapping[str, object]

    @property
    def axes(self) -> tuple[str, ...]:
        """Keys that are varied, without the seed."""
        return tuple(key for key in self.cells.columns if "." in key and key != SEED)

    @property
    def finished(self) -> pl.DataFrame:
        """Cells that ran to their end."""
        return self.cells.filter(pl.col("status") == FINISHED)

    def describe(self) -> tuple[str, ...]:
        """Return what every figure says about its grid."""
        finished, cells = self.finished.height, self.cells.height
        seeds = self.cells["seed"].n_unique()
        counts = {key: self.cells[key].drop_nulls().n_unique() for key in self.axes}
        axes = ", ".join(f"{count} values of {short(key)}" for key, count in counts.items())
        of = f"{finished} of {cells}" if finished < cells else f"{cells}"
        many = "seed" if seeds == 1 else "seeds"
        return (f"Grid {self.directory.name}: {of} cells of {seeds} {many}, {axes or 'no axis'}.",)

    def scan(
        self, table: str, columns: Sequence[str], cells: pl.DataFrame | None = None
    ) -> pl.DataFrame:
        """Read columns of the finished cells' `rounds`, `clients` or `layers`, and only those.

        Args:
            table: which.
            columns: null where a run's table does not have them.
            cells: only of these; default: all that finished.

        Returns:
            The columns, and of each row's cell `cell`, `seed`, `is_twin`, the axes and levels.
        """
        cells = self.finished if cells is None else cells
        files = (self.directory / run / f"{table}.parquet" for run in cells["run"])
        there = cells.filter(pl.Series([file.is_file() for file in files], dtype=pl.Boolean))
        schema = {column: _SCHEMAS[table].get(column, pl.Float64) for column in columns}
        rows = scan_runs(self.directory, there, table, schema)
        about = cells.select("cell", "seed", "is_twin", *self.axes, "level", "level_order")
        with readable(self.directory):
            return rows.join(about.lazy(), on="cell", maintain_order="left").collect()


def is_grid(directory: Path) -> bool:
    """Return whether `directory` is a grid's rather than a run's."""
    return any((directory / name).is_file() for name in (_MANIFEST, "cells.parquet"))


def read_grid(directory: Path) -> GridTables:
    """Read a grid's directory.

    Raises:
        RunError: if a table is missing or lacks a column, or no cell has finished.
    """
    tables: dict[str, pl.DataFrame] = {}
    for name, needed in _NEEDED.items():
        path = directory / f"{name}.parquet"
        if not path.is_file():
            raise RunError(
                f"the grid {directory} has no {path.name} yet: `fnl grid tables {directory}` "
                "writes its tables"
            )
        with readable(path):
            columns = pl.read_parquet_schema(path)
            tables[name] = (
                pl.DataFrame() if name == "results" else pl.read_parquet(path, glob=False)
            )
        if missing := [column for column in needed if column not in columns]:
            raise RunError(f"the grid's table {path} has no column {missing[0]!r}")
    cells = tables["cells"]
    finished = cells.filter(pl.col("status") == FINISHED)
    if not finished.height:
        raise RunError(f"no cell of the grid {directory} has finished: there is nothing to show")
    file, overrides = _manifest(directory)
    private = _is_private(directory, finished)
    return GridTables(
        directory=directory.absolute(),
        cells=with_levels(cells, private=private),
        results=pl.scan_parquet(directory / "results.parquet", glob=False),
        summary=with_levels(tables["summary"], private=private),
        file=file,
        overrides=overrides,
    )


def _is_private(directory: Path, finished: pl.DataFrame) -> bool:
    """Return whether cells are private that are no twins and of which no axis says it.

    They are alike in this; where the first one's record does not tell, they count as private.
    """
    if "privacy.mode" in finished.columns:
        return True
    for run in finished.filter(~pl.col("is_twin"))["run"].head(1):
        record = record_of(directory / run)
        config = record.get("config") if record else None
        return not (isinstance(config, Mapping) and config.get("privacy.mode") == "none")
    return True


def _manifest(directory: Path) -> tuple[str | None, dict[str, object]]:
    """Return the text of the grid file, where it is, and what `--set` laid over its base.

    Raises:
        RunError: if the directory's record is not what was written.
    """
    path = directory / _MANIFEST
    if not path.is_file():
        return None, {}
    manifest = GridDirectory(directory).manifest()
    return manifest.source, dict(manifest.overrides)
