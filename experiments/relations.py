"""What moves with the rate shift? `python -m experiments.relations results/fidelity`.

Of every private run of a grid with twins: rate, sparsity, energy and memory of its last global
model, each less those of its twin. Spearman's ρ of the rate shift with each, and its 95 % interval
by resampling settings: the seeds of one setting stay together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from scipy import stats

from experiments.figures.grid_tables import GridTables, read_grid
from experiments.study import command, markdown_table
from fnl.errors import RunError
from fnl.randomness import Purpose, stream

SHIFT = "firing_rate"
INDICATORS = {
    "energy_nj": "energy of a clip",
    "synops_effective_acs": "synaptic operations of a clip",
    "silent_fraction": "silent neurons",
    "saturated_fraction": "saturated neurons",
    "membrane_mean": "membrane, mean",
    "membrane_variance": "membrane, variance",
    "membrane_autocorrelation": "membrane, lag-1 autocorrelation",
}
"""What is related to the shift. Activation sparsity is 1 − the rate in networks of one layer."""

_OF_LAYERS = ("membrane_mean", "membrane_variance", "membrane_autocorrelation")
_RESAMPLES = 2000


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="directory of the grid")
    options = parser.parse_args(arguments)
    print(markdown(relations(differences(read_grid(options.grid)))))


def differences(grid: GridTables) -> pl.DataFrame:
    """Return a row a private cell: `setting`, and its last model's indicators less its twin's."""
    of_rounds = [name for name in (SHIFT, *INDICATORS) if name not in _OF_LAYERS]
    rounds = grid.scan("rounds", ["round", *of_rounds]).drop_nulls(SHIFT)
    last = rounds.sort("round").group_by("cell", maintain_order=True).agg(pl.col(of_rounds).last())
    layers = grid.scan("layers", ["round", "partition", *_OF_LAYERS])
    layers = layers.filter(pl.col("partition").is_null(), pl.col("membrane_mean").is_not_null())
    by_cell = layers.sort("round").group_by("cell", maintain_order=True)
    deepest = by_cell.agg(pl.col(_OF_LAYERS).last())
    values = last.join(deepest, on="cell", how="left", maintain_order="left")
    about = grid.finished.select("cell", "twin", "is_twin", *grid.axes)
    private = about.filter(~pl.col("is_twin"), pl.col("twin").is_not_null())
    if not private.height:
        raise RunError(f"{grid.directory} has no private run with a finished twin")
    names = [SHIFT, *INDICATORS]
    twins = values.select(pl.col("cell").alias("twin"), pl.col(names).name.suffix("_twin"))
    paired = private.join(values, on="cell").join(twins, on="twin")
    settings = [repr(values) for values in paired.select(grid.axes).iter_rows()]
    return paired.select(
        pl.Series("setting", settings),
        *(pl.col(name) - pl.col(f"{name}_twin") for name in names),
    )


def relations(table: pl.DataFrame) -> pl.DataFrame:
    """Return a row an indicator that varies: Spearman's ρ with the shift, and its interval."""
    rows = []
    for name, words in INDICATORS.items():
        known = table.drop_nulls([SHIFT, name])
        x, y = known[SHIFT].to_numpy(), known[name].to_numpy()
        if known.height < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        low, high = _interval(x, y, known["setting"].to_numpy())
        found = {"rho": _rho(x, y), "low": low, "high": high}
        rows.append({"indicator": words, "runs": len(x), **found})
    return pl.DataFrame(rows)


def _interval(x: np.ndarray, y: np.ndarray, setting: np.ndarray) -> tuple[float, float]:
    draws = stream(0, Purpose.BOOTSTRAP, len(x))
    groups = [np.flatnonzero(setting == one) for one in np.unique(setting)]
    found = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([groups[k] for k in draws.integers(len(groups), size=len(groups))])
        if np.ptp(x[drawn]) and np.ptp(y[drawn]):
            found.append(_rho(x[drawn], y[drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _rho(x: np.ndarray, y: np.ndarray) -> float:
    return cast("Any", stats.spearmanr(x, y)).statistic  # SciPy's result is untyped


def markdown(table: pl.DataFrame) -> str:
    """Return the table as Markdown."""
    rows = [
        (name, str(runs), f"{rho:.2f} ({low:.2f} to {high:.2f})")
        for name, runs, rho, low, high in table.iter_rows()
    ]
    return markdown_table(("less the twin's", "runs", "Spearman's ρ with the rate shift"), rows)


if __name__ == "__main__":
    sys.exit(main())
