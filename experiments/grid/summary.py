"""`summary.parquet`: every metric of every setting over seeds, against its twin and a baseline.

A row is a setting (the varied keys but `run.seed`, and `is_twin`) and a metric, after the last
round. Columns beside these: `n`, `mean`, `se` (standard error), `low`, `high` (95 % bootstrap);
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
from experiments.grid.statistics import Values, bootstrap_interval, holm, paired_test

SEED = "run.seed"
COMPARISONS = ("difference", "baseline_difference")
_MEASURES = ("n", "mean", "se", "low", "high")


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
    for partner, name in (("twin", "difference"), ("baseline", "baseline_difference")):
        theirs = last.select(pl.col("cell").alias(partner), "metric", pl.col("value").alias(name))
        values = values.join(theirs, on=[partner, "metric"], how="left").with_columns(
            (pl.col("value") - pl.col(name)).alias(name)
        )
    grouped = (
        values.sort("place", "metric")
        .group_by([*settings, "metric"], maintain_order=True)
        .agg("value", pl.col("difference", "baseline_difference").drop_nulls())
    )
    table = grouped.select(*settings, "metric").with_columns(_measures(grouped["value"]))
    for name in COMPARISONS:
        table = table.with_columns(_comparison(grouped[name], grouped["metric"], name))
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


def _measures(samples: pl.Series) -> list[pl.Series]:
    columns = {name: np.full(len(samples), np.nan) for name in _MEASURES}
    for rows, stack in _stacks(samples):
        size = stack.shape[1]
        columns["n"][rows] = size
        columns["mean"][rows] = stack.mean(axis=1)
        if size > 1:
            columns["se"][rows] = stack.std(axis=1, ddof=1) / np.sqrt(size)
        columns["low"][rows], columns["high"][rows] = bootstrap_interval(stack)
    return [
        _column(name, array).cast(pl.Int64 if name == "n" else pl.Float64)
        for name, array in columns.items()
    ]


def _comparison(samples: pl.Series, metrics: pl.Series, name: str) -> list[pl.Series]:
    count = len(samples)
    mean, low, high, p_values = (np.full(count, np.nan) for _ in range(4))
    for rows, stack in _stacks(samples):
        mean[rows] = stack.mean(axis=1)
        low[rows], high[rows] = bootstrap_interval(stack)
        p_values[rows] = paired_test(stack)
    adjusted = np.full(count, np.nan)
    for metric in metrics.unique(maintain_order=True):
        family = np.flatnonzero((metrics == metric).to_numpy())
        adjusted[family] = holm(p_values[family])
    prefix = name.removesuffix("difference")
    return [
        _column(name, mean),
        _column(f"{name}_low", low),
        _column(f"{name}_high", high),
        _column(f"{prefix}p_value", p_values),
        _column(f"{prefix}p_adjusted", adjusted),
    ]


def _stacks(samples: pl.Series) -> list[tuple[np.ndarray, Values]]:
    """Return samples of the same size together: their rows and their values [k, n]."""
    sizes = samples.list.len().to_numpy()
    stacks = []
    for size in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == size)
        values = samples.gather(rows).explode().to_numpy().astype(np.float64)
        stacks.append((rows, values.reshape(len(rows), size)))
    return stacks


def _column(name: str, array: Values) -> pl.Series:
    return pl.Series(name, array, nan_to_null=True)
