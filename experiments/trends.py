"""How measures of a grid move along one key: `python -m experiments.trends results/paper`.

Of the cells that are varied in one key and others by turns (ε and C, say) each seed gives one value
a level of the key: the mean over the other keys. Intervals and tests are over seeds: Student's t of
those values, and of their slope per doubling of the key. Accuracy is the last round's, everything
else the mean over the rounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from experiments.figures.grid_tables import GridTables, read_grid
from experiments.grid.statistics import paired_p_value, t_interval
from experiments.study import command, markdown_table, p_value
from fnl.errors import RunError

MEASURES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "firing rate": "firing_rate",
    "rate shift": "rate_shift",
    "attenuation": "attenuation",
    "cosine": "cosine_shadow",
    "Kendall τ": "kendall_tau_shadow",
    "flip rate": "flip_rate_shadow",
}
"""What a column of the table is called, and the column of `rounds.parquet` it is made of."""

_TWIN = "accuracy − twin"
_PRIVATE = ("privacy.epsilon", "privacy.clip-norm")
_ROUNDING = 1e-9
"""Relative difference of seeds that are the same: there is nothing to test."""


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="directory of the grid")
    parser.add_argument("--along", nargs="+", default=list(_PRIVATE), metavar="GROUP.KEY")
    options = parser.parse_args(arguments)
    values = measured(read_grid(options.grid), varied=options.along)
    for key in options.along:
        print(f"{markdown(trend(values, key), key)}\n")


def measured(grid: GridTables, varied: Sequence[str]) -> pl.DataFrame:
    """Return a row a private cell of the largest product of `varied`: seed, keys and measures.

    Raises:
        RunError: if a key is not varied in the grid.
    """
    for key in varied:
        if key not in grid.axes:
            raise RunError(f"{key} is no axis of {grid.directory}: give some of {grid.axes}")
    rounds = grid.scan("rounds", ["round", *MEASURES.values()]).filter(pl.col("round") > 0)
    of_cell = rounds.group_by("cell", maintain_order=True).agg(
        pl.col("accuracy").sort_by("round").last(), pl.col(*list(MEASURES.values())[1:]).mean()
    )
    keys = ["cell", "seed", "is_twin", "twin", *grid.axes]
    cells = grid.finished.select(keys).join(of_cell, on="cell", maintain_order="left")
    twins = cells.select(twin="cell", of_twin="accuracy")
    private = (
        cells.filter(~pl.col("is_twin"))
        .join(twins, on="twin", how="left", maintain_order="left")
        .with_columns((pl.col("accuracy") - pl.col("of_twin")).alias(_TWIN))
    )
    others = [key for key in grid.axes if key not in varied]
    groups = private.group_by(others, maintain_order=True) if others else [((), private)]
    largest = max((group for _, group in groups), key=lambda group: group.height)
    return largest.rename({column: name for name, column in MEASURES.items()}).sort("cell")


def trend(values: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return a row a measure: mean and half interval by level of `key`, slope, its p.

    Args:
        values: of `measured`.
        key: a key with positive values.

    Raises:
        RunError: if there are fewer than two levels, or not all seeds at each.
    """
    levels = values[key].unique().sort().to_list()
    seeds = values["seed"].n_unique()
    if len(levels) < 2 or values.select("seed", key).n_unique() < seeds * len(levels):
        raise RunError(f"{key} needs at least two values, and every seed at each of them")
    rows = []
    for measure in (*MEASURES, _TWIN):
        by_seed = values.group_by("seed", key).agg(pl.col(measure).mean()).sort("seed", key)
        if by_seed[measure].null_count():
            continue
        table = by_seed[measure].to_numpy().reshape(seeds, len(levels))
        slopes = np.polyfit(np.log2(levels), table.T, 1)[0]
        slope, half = t_interval(slopes)
        varies = np.ptp(slopes) > _ROUNDING * np.abs(slopes).max()
        intervals = [t_interval(column) for column in table.T]
        rows.append(
            {
                "measure": measure,
                "levels": [float(level) for level in levels],
                "means": [mean for mean, _ in intervals],
                "halves": [width for _, width in intervals],
                "slope": slope,
                "slope_half": half,
                "p": paired_p_value(slopes) if varies else None,
            }
        )
    return pl.DataFrame(rows)


def markdown(table: pl.DataFrame, key: str) -> str:
    """Return the table as Markdown, one line a measure."""
    levels = [f"{level:g}" for level in table["levels"][0]]
    rows = []
    for row in table.iter_rows(named=True):
        intervals = zip(row["means"], row["halves"], strict=True)
        cells = [f"{mean:.4f} ± {half:.4f}" for mean, half in intervals]
        slope = f"{row['slope']:+.4f} ± {row['slope_half']:.4f}"
        rows.append((row["measure"], *cells, slope, p_value(row["p"])))
    return markdown_table((f"`{key}`", *levels, "slope a doubling", "p"), rows)


if __name__ == "__main__":
    sys.exit(main())
