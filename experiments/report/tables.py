"""Tables of a report: which columns they show, and how their values read."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from experiments.figures.grid_tables import GridTables
from experiments.figures.run_tables import RunTables
from experiments.grid.summary import SEED
from experiments.report.intervals import number
from experiments.report.page import Cell, Column, Table
from fnl.runtime.tables import CLIENTS, LABELS, LAYERS, ROUNDS

MOST_ROWS = 400
SUMMARISED = (
    "accuracy", "loss", "firing_rate", "rate_shift", "activation_sparsity", "kendall_tau_shadow",
    "jaccard_shadow", "flip_rate_shadow", "attenuation", "cosine_shadow", "energy_nj",
    "epsilon_max",
)  # fmt: skip
"""Metrics of a grid's summary that the page shows; the others are in its file."""
ROUND_TABLES = {
    "Rounds: the global model": (
        "accuracy", "loss", "firing_rate", "activation_sparsity", "silent_fraction",
        "saturated_fraction", "update_norm", "effective_clients", "weight_entropy",
    ),
    "Rounds: against no DP": (
        "rate_shift", "kendall_tau_shadow", "spearman_rho_shadow", "jaccard_shadow", "rbo_shadow",
        "flip_rate_shadow", "attenuation", "cosine_shadow",
    ),
    "Rounds: cost and privacy": (
        "synops_effective_acs", "synops_effective_macs", "energy_nj", "footprint_bytes",
        "epsilon_max", "epsilon_mean", "seconds",
    ),
}  # fmt: skip
"""Columns of `rounds.parquet` by table: one with all of them fits neither a screen nor paper."""
WIDEST = 9
_MEASURES = ("n", "mean", "se", "difference", "p_adjusted")
_MEASURES += ("baseline_difference", "baseline_p_adjusted")
_INTERVALS = {"se": ("interval", ""), "difference": ("difference_interval", "difference_")}
_INTERVALS |= {"baseline_difference": ("baseline_interval", "baseline_difference_")}
"""Column of the summary -> name of the interval that is shown right of it, prefix of its ends."""

_SUMMARY_NAMES = {
    "level": "privacy",
    "interval": "95 % interval",
    "difference_interval": "its 95 % interval",
    "p_adjusted": "p, adjusted",
    "baseline_difference": "difference from baseline",
    "baseline_interval": "its 95 % interval",
    "baseline_p_adjusted": "its p, adjusted",
}
ABSENT = "\N{EN DASH}"
_MEANINGS = {
    name: column.doc.replace("`", "")
    for table in (LABELS, LAYERS, CLIENTS, ROUNDS)
    for name, column in table.columns.items()
} | {
    "asked": "rounds as a candidate",
    "selected": "rounds in which it was selected",
    "difference": "paired difference from the twin without DP",
    "p_adjusted": "p-value corrected for many comparisons",
}
"""Of a column, shown at its heading: as it is declared, or as the report makes it."""


def cell(value: object) -> Cell:
    """Return a value as text, with the number by which it sorts."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell(ABSENT)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return Cell(str(value), float(value))
    if isinstance(value, float):
        sort = value if math.isfinite(value) else None
        whole = value.is_integer() and abs(value) < 1e6
        return Cell(number(value, ".0f" if whole or 1e3 <= abs(value) < 1e9 else ".4g"), sort)
    if isinstance(value, Mapping):
        return _interval(value["low"], value["high"])
    return Cell(str(value))


def _interval(low: float | None, high: float | None) -> Cell:
    if low is None or high is None:
        return Cell(ABSENT)
    return Cell(f"{cell(low).text} to {cell(high).text}", low)


def table_of(
    rows: pl.DataFrame, title: str, note: str, names: Mapping[str, str] | None = None
) -> Table:
    """Return all columns that have any value; of many rows, evenly spaced ones.

    Args:
        rows: of the table.
        title: heading.
        note: what the rows are.
        names: of columns, where they differ from the frame's.
    """
    names = names or {}
    shown = [column for column in rows.columns if rows[column].count()]
    if rows.height > MOST_ROWS:
        places = np.unique(np.linspace(0, rows.height - 1, MOST_ROWS).astype(int))
        note += f" Of {rows.height} rows, {len(places)} evenly spaced ones are shown."
        rows = rows[places]
    return Table(
        title=title,
        note=note,
        columns=[
            Column(
                names.get(column, column),
                _MEANINGS.get(column, ""),
                rows.schema[column].is_numeric() or rows.schema[column] == pl.Struct,
            )
            for column in shown
        ],
        rows=[[cell(value) for value in row] for row in rows.select(shown).iter_rows()],
    )


def tables_of_run(run: RunTables) -> list[Table]:
    """Return the rounds, the clients over all rounds, and the layers after the last round."""
    means = ("score", "rank", "rank_shadow", "firing_rate_before", "firing_rate_after")
    own = [name for name in ("loss_before", "accuracy_before") if name in run.clients.columns]
    clients = (
        run.clients.group_by("partition")
        .agg(
            pl.len().alias("asked"),
            pl.col("selected").sum(),
            pl.col("num_examples").max().alias("clips"),
            pl.col(*means, "firing_rate_shadow", "clip_fraction").mean(),
            *(pl.col(name).sort_by("round").last() for name in own),
            pl.col("epsilon").max(),
        )
        .sort("partition")
    )
    layers = run.layers.filter(pl.col("partition").is_null()).drop("partition")
    last = layers.filter(pl.col("round") == pl.col("round").max()).sort("layer")
    tables = _tables_of_rounds(run.rounds.sort("round"))
    tables.append(
        table_of(
            clients,
            "Clients",
            "A row a client that was ever a candidate; scores, ranks and rates are means over "
            "those rounds, accuracy and loss are of the global model on its clips when it was "
            "asked last.",
        )
    )
    if last.height:
        note = f"The global model on the {run.config.evaluation.split} split, last evaluation."
        tables.append(table_of(last, "Layers", note))
    if run.by_label is not None and run.by_label.height:
        labels = run.by_label.filter(pl.col("round") == pl.col("round").max()).drop("round")
        note = f"The global model on the {run.config.evaluation.split} split, last evaluation."
        tables.append(table_of(labels.sort("accuracy"), "Labels", note))
    return tables


def _tables_of_rounds(rounds: pl.DataFrame) -> list[Table]:
    """Return the columns that have values, in tables narrow enough to read."""
    named = {column for columns in ROUND_TABLES.values() for column in columns}
    others = [column for column in rounds.columns if column not in named | {"round"}]
    others = [column for column in others if rounds[column].count()]
    groups = dict(ROUND_TABLES)
    for start in range(0, len(others), WIDEST):
        part = f" ({start // WIDEST + 1})" if len(others) > WIDEST else ""
        groups[f"Rounds: further measures{part}"] = tuple(others[start : start + WIDEST])
    return [
        table_of(rounds.select("round", *known), title, "A row a round; 0: before training.")
        for title, columns in groups.items()
        if (known := [name for name in columns if name in rounds.columns and rounds[name].count()])
    ]


def tables_of_grid(grid: GridTables) -> list[Table]:
    """Return the summary and the cells."""
    order = {metric: place for place, metric in enumerate(SUMMARISED)}
    summary = (
        grid.summary.filter(pl.col("metric").is_in(SUMMARISED))
        .with_columns(place=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort("place", "level_order", *grid.axes, nulls_last=True)
    )
    keys = [key for key in grid.axes if key != "privacy.epsilon"]
    shown: list[str | pl.Expr] = ["metric", "level", *keys]
    for column in _MEASURES:
        if column not in summary:
            continue
        shown.append(column)
        name, prefix = _INTERVALS.get(column, ("", ""))
        if name and f"{prefix}low" in summary:
            ends = pl.struct(low=f"{prefix}low", high=f"{prefix}high")
            shown.append(pl.when(pl.col(f"{prefix}low").is_not_null()).then(ends).alias(name))
    cells = grid.cells.drop("level_order", "is_twin", "privacy.epsilon", SEED, strict=False)
    return [
        table_of(
            summary.select(shown),
            "Summary",
            "A row a configuration and metric: mean over seeds with standard error and 95 % "
            "interval, and the paired difference from the twin without DP. Further metrics are in "
            "summary.parquet.",
            _SUMMARY_NAMES,
        ),
        table_of(cells, "Cells", "A row a cell; run: its run directory.", {"level": "privacy"}),
    ]
