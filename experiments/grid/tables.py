"""A grid's tables: `cells.parquet`, `results.parquet`, `summary.parquet`.

| table | a row is | columns |
|---|---|---|
| cells | a run | cell, seed, a column a varied key, is_twin, twin, status, run, seconds |
| results | a metric in a round of a finished cell | cell, seed, round, metric, value |
| summary | a metric of a setting | see `experiments.grid.summary` |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from experiments.grid.directory import GridDirectory, Manifest, taken
from experiments.grid.summary import summarise
from fnl.errors import RunError, one_line, reason_of
from fnl.runtime.atomic import write_atomically
from fnl.runtime.digests import check_digest, write_digests
from fnl.runtime.run_directory import FINISHED
from fnl.runtime.tables import ROUNDS

METRICS = tuple(name for name, dtype in ROUNDS.items() if name != "round" and dtype.is_numeric())
"""Columns of `rounds.parquet` that are numbers."""


def write_tables(directory: GridDirectory) -> list[Path]:
    """Write all three tables from what the cells' directories hold now, and return the files.

    Raises:
        RunError: if a cell's table cannot be read, or the disk does not take the grid's.
    """
    manifest = directory.manifest()
    cells = cell_table(directory, manifest)
    paths = [directory.path / f"{name}.parquet" for name in ("cells", "results", "summary")]
    try:
        write_atomically(paths[0], cells.write_parquet)
        write_atomically(paths[1], result_table(directory, cells).sink_parquet)
        summary = summarise(cells, last_values(pl.scan_parquet(paths[1], glob=False)), manifest)
        write_atomically(paths[2], summary.write_parquet)
        write_digests(directory.path, [path.name for path in paths])
    except (OSError, pl.exceptions.PolarsError) as error:
        said = f"cannot write the tables of {directory.path}: {reason_of(error)}"
        raise RunError(said) from error
    return paths


def cell_table(directory: GridDirectory, manifest: Manifest) -> pl.DataFrame:
    """Return a row a cell, in the order of the grid file."""
    driven, rows = directory.is_driven, []
    for cell in manifest.cells:
        record = directory.record(cell.id)
        rows.append(
            {
                "cell": cell.id,
                "seed": cell.seed,
                **{key: cell.values[key] for key in manifest.keys},
                "is_twin": cell.is_twin,
                "twin": cell.twin,
                "status": directory.standing(record, driven=driven),
                "run": f"cells/{cell.id}",
                "seconds": taken(record, "seconds") or _number(record, "seconds"),
            }
        )
    fixed = {"twin": pl.String, "seconds": pl.Float64}
    try:
        return pl.DataFrame(rows, schema_overrides=fixed, infer_schema_length=None)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise RunError(
            f"{directory.path / 'grid.json'} is not a grid's record: {one_line(error)}"
        ) from None


def _number(record: Mapping[str, object] | None, name: str) -> float | None:
    value = (record or {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def result_table(directory: GridDirectory, cells: pl.DataFrame) -> pl.LazyFrame:
    """Return cell, seed, round, metric and value of all finished cells, nothing read yet.

    Values that do not apply have no row. Cells of an earlier version may lack columns.
    """
    finished = cells.filter(status=FINISHED)
    return (
        scan_runs(directory.path, finished, "rounds", ROUNDS)
        .with_columns(pl.col(METRICS).cast(pl.Float64))
        .unpivot(METRICS, index=["cell", "round"], variable_name="metric")
        .drop_nulls("value")
        .join(finished.lazy().select("cell", "seed"), on="cell", maintain_order="left")
        .select("cell", "seed", "round", "metric", "value")
    )


def last_values(results: pl.LazyFrame) -> pl.DataFrame:
    """Return cell, metric and value after each cell's last round."""
    last = results.group_by("cell").agg(pl.col("round").max())
    return (
        results.join(last, on=["cell", "round"])
        .select("cell", "metric", "value")
        .sort("cell", "metric")
        .collect(engine="streaming")
    )


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
