"""The tables of a grid's runs, read together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from fnl.runtime.digests import check_digest


def scan_runs(
    directory: Path, cells: pl.DataFrame, table: str, schema: Mapping[str, type[pl.DataType]]
) -> pl.LazyFrame:
    """Return columns of one table of the cells' runs, and `cell`; nothing is read yet.

    Args:
        directory: of the grid.
        cells: with `cell` and `run`.
        table: `rounds`, `clients` or `layers`; every run has its file.
        schema: the columns; null in runs of an earlier version that lack one.

    Raises:
        RunError: if a table is not what its run has written.
    """
    if cells.is_empty():
        return pl.LazyFrame(schema={**schema, "cell": pl.String})
    files = [directory / run / f"{table}.parquet" for run in cells["run"]]
    for file in files:
        check_digest(file)
    paths = [str(file) for file in files]
    rows = pl.scan_parquet(
        paths,
        glob=False,
        schema=dict(schema),
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(integer_cast="allow-float"),
        include_file_paths="path",
    )
    owners = cells.select("cell", path=pl.Series(paths, dtype=pl.String)).lazy()
    return rows.join(owners, on="path", maintain_order="left").drop("path")
