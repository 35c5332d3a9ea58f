"""Does a selection rule beat chance? `python -m experiments.rules results/coordination`.

Each run gives one number: accuracy over its last rounds, as one round's is noisy. A rule is
compared with random selection of the same seed and setting: mean difference, Student's 95 %
interval, p of the paired t-test and the same after Holm's correction for all the rules of a
setting. Beside them the smallest difference that as many seeds would have found four times of five.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from experiments.figures.grid_tables import GridTables, read_grid
from experiments.grid.statistics import CONFIDENCE, holm, paired_p_value, t_interval
from experiments.study import command, markdown_table, p_value
from fnl.errors import RunError

RULE, AGAINST = "coordination.selection", "random"
POWER = 0.8


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="directory of the grid")
    parser.add_argument("--last", type=int, default=4, help="rounds whose accuracy is averaged")
    options = parser.parse_args(arguments)
    for title, table in compared(read_grid(options.grid), last=options.last):
        print(f"{title}\n\n{markdown(table)}\n")


def compared(grid: GridTables, *, last: int) -> list[tuple[str, pl.DataFrame]]:
    """Return a title and a row a rule for each setting of the grid's other axes, best rule first.

    Raises:
        RunError: if rules are not varied, or random selection is not among them.
    """
    if RULE not in grid.axes:
        raise RunError(f"{grid.directory} does not vary {RULE}")
    others = [key for key in grid.axes if key != RULE]
    rounds = grid.scan("rounds", ["round", "accuracy"]).drop_nulls("accuracy")
    keys = ["seed", RULE, *others]
    values = (
        rounds.sort("round")
        .group_by(*keys, maintain_order=True)
        .agg(pl.col("accuracy").tail(last).mean(), n=pl.len())
    )
    settings = values.group_by(others, maintain_order=True) if others else [((), values)]
    return [
        (
            ", ".join(f"{key} = {value}" for key, value in zip(others, setting, strict=True)),
            _rules(of),
        )
        for setting, of in settings
    ]


def _rules(values: pl.DataFrame) -> pl.DataFrame:
    chance = values.filter(pl.col(RULE) == AGAINST).select("seed", chance="accuracy")
    if not chance.height:
        raise RunError(f"there is no run with {RULE} = {AGAINST!r} to compare with")
    paired = values.join(chance, on="seed").sort("seed")
    rows = [
        _row(str(rule), part)
        for (rule,), part in paired.group_by(RULE, maintain_order=True)
        if rule != AGAINST
    ]
    ps = np.array([np.nan if row["p"] is None else row["p"] for row in rows], np.float64)
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(p_holm=pl.Series(holm(ps))).sort("difference", descending=True)


def _row(rule: str, part: pl.DataFrame) -> dict[str, object]:
    differences = (part["accuracy"] - part["chance"]).to_numpy()
    mean, half = t_interval(differences)
    return {
        "rule": rule,
        "seeds": len(differences),
        "accuracy": float(part["accuracy"].to_numpy().mean()),
        "random": float(part["chance"].to_numpy().mean()),
        "difference": mean,
        "half": half,
        "p": paired_p_value(differences),
        "detectable": detectable(differences),
    }


def detectable(differences: np.ndarray) -> float:
    """Return the true mean difference that as many seeds with this spread find at `POWER`.

    (t_{97.5 %} + t_{80 %}) standard errors, the usual approximation to the power of the t-test.
    """
    freedom = len(differences) - 1
    if freedom < 1:
        return float("inf")
    quantiles = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) + stats.t.ppf(POWER, freedom)
    return float(quantiles * stats.sem(differences))


def markdown(table: pl.DataFrame) -> str:
    """Return the table as Markdown, accuracies in percent."""
    heads = ("rule", "seeds", "accuracy", "random", "difference", "p", "Holm", "detectable")
    rows = [
        (
            f"`{row['rule']}`",
            str(row["seeds"]),
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['random']:.1f}",
            f"{100 * row['difference']:+.1f} ± {100 * row['half']:.1f}",
            p_value(row["p"]),
            p_value(row["p_holm"]),
            f"{100 * row['detectable']:.1f}",
        )
        for row in table.iter_rows(named=True)
    ]
    return markdown_table(heads, rows)


if __name__ == "__main__":
    sys.exit(main())
