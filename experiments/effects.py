"""Do the three effects go beyond chance? `python -m experiments.effects results/effects`.

Of every private setting of a grid with shadows and floors: how far a round under privacy is from
the same round without it, beside how far two non-private rounds are that differ in their draws
alone (the floor). Values are means over the rounds of a run; intervals are Student's t over seeds,
and of the difference between both over the pairs of a seed.
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

from experiments.grid.statistics import paired_p_value, t_interval
from experiments.study import command, markdown_table, p_value
from fnl.errors import RunError
from fnl.runtime.run_record import read_run
from fnl.runtime.table_reading import read_parquet

EFFECTS = {
    "rate shift": ("rate_shift", "rate_shift_floor"),
    "size of rate shift": ("rate_shift_absolute", "rate_shift_absolute_floor"),
    "attenuation": ("attenuation", "attenuation_floor"),
    "cosine": ("cosine_shadow", "cosine_floor"),
    "Kendall τ": ("kendall_tau_shadow", "kendall_tau_floor"),
    "Jaccard": ("jaccard_shadow", "jaccard_floor"),
    "flip rate": ("flip_rate_shadow", "flip_rate_floor"),
}
"""What is compared: the column against the shadow, and the same of the floor."""

_SETTING = ("training.optimizer", "privacy.epsilon", "privacy.clip-norm")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="directory of the grid")
    options = parser.parse_args(arguments)
    runs = read_runs(options.grid)
    print(markdown(effects(runs)))
    print()
    print(predictions(runs))


def read_runs(grid: Path) -> list[tuple[dict[str, object], Path]]:
    """Return the configuration and the directory of every finished private run of a grid.

    Raises:
        RunError: if there is none.
    """
    runs = []
    for path in sorted((grid / "cells").glob("*/run.json")):
        record = read_run(path.parent)
        config = record["config"]
        if record["status"] != "finished" or not isinstance(config, dict):
            continue
        if config["privacy.mode"] != "none" and config["evaluation.floor"]:
            runs.append((config, path.parent))
    if not runs:
        raise RunError(f"{grid} has no finished private run with evaluation.floor = true")
    return runs


def effects(runs: Sequence[tuple[dict[str, object], Path]]) -> pl.DataFrame:
    """Return a row a setting and effect: means, interval of the difference, p of a paired test."""
    rows = []
    for config, path in runs:
        rounds = read_parquet(path / "rounds.parquet")
        setting = {key: config[key] for key in _SETTING}
        for effect, (private, floor) in EFFECTS.items():
            values = {"private": rounds[private].mean(), "floor": rounds[floor].mean()}
            rows.append({**setting, "effect": effect, **values})
    groups = pl.DataFrame(rows).group_by(*_SETTING, "effect", maintain_order=True)
    return pl.DataFrame([_compared(key, group) for key, group in groups])


def _compared(key: tuple[object, ...], group: pl.DataFrame) -> dict[str, object]:
    private, floor = group["private"].to_numpy(), group["floor"].to_numpy()
    mean, half = t_interval(private - floor)
    return {
        **dict(zip((*_SETTING, "effect"), key, strict=True)),
        "seeds": len(group),
        "private": private.mean(),
        "private_half": t_interval(private)[1],
        "floor": floor.mean(),
        "difference": mean,
        "half": half,
        "p": paired_p_value(private - floor),
    }


def markdown(table: pl.DataFrame) -> str:
    """Return the table as Markdown, one line a setting and effect."""
    heads = ("optimizer", "ε", "C", "effect", "private", "floor", "private − floor", "p")
    rows = [
        (
            *(str(row[key]) for key in _SETTING),
            row["effect"],
            f"{row['private']:.4f} ± {row['private_half']:.4f}",
            f"{row['floor']:.4f}",
            f"{row['difference']:+.4f} ± {row['half']:.4f}",
            p_value(row["p"]),
        )
        for row in table.sort(*_SETTING, maintain_order=True).iter_rows(named=True)
    ]
    return markdown_table(heads, rows)


def predictions(runs: Sequence[tuple[dict[str, object], Path]]) -> str:
    """Return how first order agrees with the measured shift, over the rounds of clients."""
    columns = ["rate_shift", "predicted_rate_shift", "predicted_rate_shift_sd"]
    tables = [read_parquet(path / "clients.parquet").select(columns) for _, path in runs]
    clients = pl.concat(tables).drop_nulls()
    if clients.height < 3:
        return "no run has predictions (evaluation.sensitivity)"
    measured, predicted, sd = (clients[column].to_numpy() for column in clients.columns)
    pearson: Any = stats.pearsonr(measured, predicted)  # SciPy's result is untyped
    low, high = pearson.confidence_interval()
    rank = cast("Any", stats.spearmanr(measured, predicted)).statistic
    within = np.mean(np.abs(measured - predicted) <= 2 * sd)
    return (
        f"first order: {clients.height} rounds of clients, Pearson r {pearson.statistic:.2f} "
        f"({low:.2f} to {high:.2f}), Spearman ρ {rank:.2f}; {100 * within:.0f} % of the measured "
        "shifts within two predicted standard deviations"
    )


if __name__ == "__main__":
    sys.exit(main())
