"""`summary.parquet`: every metric of every setting over seeds, against its twin and a baseline.

A row is a setting (the varied keys but `run.seed`, and `is_twin`) and a metric, after the last
round. Columns beside these: `n`, `mean`, `se` (standard error), `low`, `high` (95 % interval);
`difference` from the non-private twin, paired by seed, with `difference_low`, `difference_high`,
`p_value` (paired t-test) and `p_adjusted` (Holm); and the five again with `baseline_` in front.

The family that p-values are adjusted for is one metric's comparisons of one kind over all
settings of the grid. Metrics are families of their own: they are separate questions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.grid.directory import KnownCell, Manifest
from experiments.grid.grid_file import same
from experiments.grid.statistics import holm, paired_test, seed_interval

SEED = "run.seed"
_MEASURES = ("n", "mean", "se", "low", "high", "p_value")
COMPARISONS = {"twin": "difference", "baseline": "baseline_difference"}
"""Column of a cell's partner, and what the paired difference from it is called."""


def summarise(cells: pl.DataFrame, last: pl.DataFrame, manifest: Manifest) -> pl.DataFrame:
    """Return the summary.

    Args:
        cells: a row a cell, see `experiments.grid.tables`.
        last: cell, metric and value after the last round.
        manifest: the varied keys and the baseline.
    """
    settings = [*(key for key in manifest.keys if key != SEED), "is_twin"]
    partners = pl.DataFrame(
        {"cell": cells["cell"], "baseline": baselines(manifest)},
        schema={"cell": pl.String, "baseline": pl.String},
    )
    described = cells.select("cell", "seed", *settings, "twin").join(
        partners, on="cell", maintain_order="left"
    )
    values = described.with_row_index("place").join(last, on="cell")
    for partner, name in COMPARISONS.items():
        theirs = last.select(pl.col("cell").alias(partner), "metric", pl.col("value").alias(name))
        values = values.join(theirs, on=[partner, "metric"], how="left").with_columns(
            (pl.col("value") - pl.col(name)).alias(name)
        )
    names = COMPARISONS.values()
    grouped = (
        values.sort("place", "metric")
        .group_by([*settings, "metric"], maintain_order=True)
        .agg("value", pl.col(*names).drop_nulls())
    )
    table = grouped.drop("value", *names).hstack(_statistics(grouped["value"]).drop("p_value"))
    for name in names:
        prefix = name.removesuffix("difference")
        compared = _statistics(grouped[name]).select(
            pl.col("mean").alias(name),
            pl.col("low", "high").name.prefix(f"{name}_"),
            pl.col("p_value").alias(f"{prefix}p_value"),
        )
        table = table.hstack(compared).with_columns(
            pl.col(f"{prefix}p_value")
            .map_batches(_adjusted, return_dtype=pl.Float64)
            .over("metric")
            .alias(f"{prefix}p_adjusted")
        )
    return table


def baselines(manifest: Manifest) -> list[str | None]:
    """Return each cell's baseline cell: its own values but for the baseline's; None without."""
    if not manifest.baseline:
        return [None] * len(manifest.cells)
    known = {_setting(cell.values, manifest.keys, cell.seed): cell.id for cell in manifest.cells}
    return [_baseline(cell, manifest, known) for cell in manifest.cells]


def _baseline(
    cell: KnownCell, manifest: Manifest, known: Mapping[tuple[object, ...], str]
) -> str | None:
    wanted = dict(cell.values)
    for key, value in manifest.baseline.items():
        if cell.values[key] is not None:  # a privacy key means nothing to a non-private cell
            wanted[key] = value
    if all(same(cell.values[key], value) for key, value in wanted.items()):
        return None
    return known.get(_setting(wanted, manifest.keys, cell.seed))


def _setting(values: Mapping[str, object], keys: tuple[str, ...], seed: int) -> tuple[object, ...]:
    return (seed, *(values[key] for key in keys if key != SEED))


def _statistics(samples: pl.Series) -> pl.DataFrame:
    """Return size, mean, standard error, interval and p-value of each sample [k lists].

    Samples of the same size are computed together: a grid may have many thousands.
    """
    sizes = samples.list.len().to_numpy()
    columns = {name: np.full(len(samples), np.nan) for name in _MEASURES}
    for size in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == size)
        stack = samples.gather(rows).explode().to_numpy().astype(np.float64).reshape(-1, size)
        columns["n"][rows] = size
        columns["mean"][rows] = stack.mean(axis=1)
        if size > 1:
            columns["se"][rows] = stack.std(axis=1, ddof=1) / np.sqrt(size)
        columns["low"][rows], columns["high"][rows] = seed_interval(stack)
        columns["p_value"][rows] = paired_test(stack)
    return pl.DataFrame(columns, nan_to_null=True).cast({"n": pl.Int64})


def _adjusted(p_values: pl.Series) -> pl.Series:
    return pl.Series(holm(p_values.to_numpy()), nan_to_null=True)
