"""A grid's directory, written from real or made-up runs: what figures and reports read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from fnl.runtime.run_directory import read_run

AXES = {"privacy.epsilon": [1.0, 8.0], "privacy.clip-norm": [0.5, 4.0]}
METRICS = (
    "accuracy",
    "firing_rate",
    "energy_nj",
    "epsilon_max",
    "attenuation",
    "kendall_tau_shadow",
    "jaccard_shadow",
)

MakeRun = Callable[[Path, Mapping[str, object]], object]
"""Makes the run of this directory with these settings."""


def write_grid(
    directory: Path,
    make_run: MakeRun,
    *,
    axes: Mapping[str, list] = AXES,
    seeds: tuple[int, ...] = (0, 1),
    twins: bool = True,
) -> Path:
    """Make the cells' runs and write `cells`, `results` and `summary` from them."""
    cells = []
    for seed in seeds:
        if twins:
            cells.append({"cell": f"twin-{seed}", "seed": seed, "is_twin": True})
        for number, values in enumerate(product(*axes.values())):
            cell = {"cell": f"c{number}-{seed}", "seed": seed, "is_twin": False}
            cells.append(
                cell
                | dict(zip(axes, values, strict=True))
                | {"twin": f"twin-{seed}" if twins else None}
            )
    for cell in cells:
        settings = {key: value for key, value in cell.items() if "." in key}
        settings |= {"run.seed": cell["seed"]}
        settings |= {"privacy.mode": "none", "evaluation.shadow": False} if cell["is_twin"] else {}
        make_run(directory / "cells" / cell["cell"], settings)
        cell |= {"run": f"cells/{cell['cell']}", "seconds": 1.5}
        cell["status"] = read_run(directory / str(cell["run"]))["status"]
    kinds = {
        key: pl.String if isinstance(values[0], str) else pl.Float64 for key, values in axes.items()
    }
    schema = {"cell": pl.String, "seed": pl.Int64, **kinds}
    schema |= {"is_twin": pl.Boolean, "twin": pl.String, "status": pl.String, "run": pl.String}
    table = pl.DataFrame(cells, schema=schema | {"seconds": pl.Float64})
    table.write_parquet(directory / "cells.parquet")
    results = pl.concat(
        pl.read_parquet(directory / run / "rounds.parquet", columns=["round", *METRICS])
        .unpivot(index="round", variable_name="metric")
        .with_columns(cell=pl.lit(cell), seed=pl.lit(seed, pl.Int64))
        for cell, seed, run in table.select("cell", "seed", "run").iter_rows()
    ).select("cell", "seed", "round", "metric", pl.col("value").cast(pl.Float64))
    results.write_parquet(directory / "results.parquet")
    summarise(results, table, list(axes)).write_parquet(directory / "summary.parquet")
    return directory


def summarise(results: pl.DataFrame, cells: pl.DataFrame, axes: list[str]) -> pl.DataFrame:
    """Mean of the last value over seeds with t-intervals, and the paired difference from twins."""
    last = (
        results.drop_nulls("value").sort("round").group_by("cell", "metric").agg(pl.last("value"))
    )
    rows = last.join(cells, on="cell")
    twins = last.select(twin="cell", metric="metric", of_twin="value")
    rows = rows.join(twins, on=["twin", "metric"], how="left")
    summary = []
    for key, group in rows.group_by(*axes, "is_twin", "metric", maintain_order=True):
        values = group["value"].to_numpy()
        mean, se, low, high, _ = _interval(values)
        row = dict(zip([*axes, "is_twin", "metric"], key, strict=True))
        row |= {"n": len(values), "mean": mean, "se": se, "low": low, "high": high}
        differences = (group["value"] - group["of_twin"]).drop_nulls().to_numpy()
        if len(differences):
            mean, _, low, high, p = _interval(differences)
            row |= {"difference": mean, "difference_low": low, "difference_high": high}
            row |= {"p_value": p, "p_adjusted": None if p is None else min(1.0, 4 * p)}
        summary.append(row)
    numbers = ["mean", "se", "low", "high", "difference", "difference_low", "difference_high"]
    schema = {key: cells.schema[key] for key in axes}
    schema |= {"is_twin": pl.Boolean(), "metric": pl.String()}
    schema |= {"n": pl.Int64()} | dict.fromkeys([*numbers, "p_value", "p_adjusted"], pl.Float64())
    return pl.DataFrame(summary, schema=schema)


def _interval(values: np.ndarray) -> tuple[float, ...] | tuple[float, None, None, None, None]:
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, None, None, None, None
    se = float(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, mean, se)
    return mean, se, float(low), float(high), float(stats.ttest_1samp(values, 0).pvalue)
