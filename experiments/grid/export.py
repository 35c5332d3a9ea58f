"""A grid's tables for people and papers: CSV, and LaTeX with booktabs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from experiments.figures.settings import independent, of_setting
from experiments.grid.directory import GridDirectory
from experiments.grid.summary import SEED
from fnl.errors import ConfigError, RunError
from fnl.runtime.atomic import write_atomically, write_text_atomically
from fnl.runtime.table_reading import read_parquet

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def write_csv(directory: GridDirectory) -> list[Path]:
    """Write every table as CSV beside its parquet file and return the files."""
    written = []
    for name in ("cells", "results", "summary"):
        path = directory.path / f"{name}.csv"
        table = pl.scan_parquet(directory.path / f"{name}.parquet", glob=False)
        write_atomically(path, table.sink_csv)
        written.append(path)
    return written


def write_latex(directory: GridDirectory, metrics: Sequence[str], pivot: str = "") -> list[Path]:
    """Write a booktabs table a metric from the summary and return the files.

    Args:
        directory: of the grid.
        metrics: of the summary.
        pivot: a varied key whose values become columns; empty: every key is a column.

    Raises:
        ConfigError: if the summary has no such metric, or the grid varies no such key.
    """
    summary, manifest = read_parquet(directory.path / "summary.parquet"), directory.manifest()
    known = summary["metric"].unique().sort().to_list()
    keys = [key for key in manifest.keys if key != SEED]
    if pivot and pivot not in keys:
        raise ConfigError(f"--pivot {pivot!r} is not varied here: choose of {', '.join(keys)}")
    written = []
    for metric in metrics:
        if metric not in known:
            raise ConfigError(f"--metric {metric!r} is not measured: choose of {', '.join(known)}")
        path = directory.path / f"{metric}.tex"
        rows = summary.filter(metric=metric)
        text = pivoted(rows, keys, pivot) if pivot else latex(rows, keys, manifest.baseline)
        try:
            write_text_atomically(path, text)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None
        written.append(path)
    return written


def latex(summary: pl.DataFrame, keys: Sequence[str], baseline: Mapping[str, object]) -> str:
    """Return one metric's summary as a LaTeX tabular (needs the package booktabs).

    Args:
        summary: rows of `summary.parquet` of one metric.
        keys: the varied keys, a column each.
        baseline: values of keys with which the partner of a row differs from it.
    """
    columns = ["difference", "baseline_difference"]
    compared = [name for name in columns if summary[name].count()]
    heads = [*map(heading, keys), "Seeds", "Mean", r"95\,\% interval"]
    named = ", ".join(f"{heading(key)} = {_value(one, False)}" for key, one in baseline.items())
    for name in compared:
        partner, which = ("no DP", "") if name == "difference" else ("baseline", f" ({named})")
        heads.append(f"Difference from {partner}{which}")
        heads += [f"from {partner}: {what}" for what in (r"95\,\% interval", "$p$ (Holm)")]
    lines, digits = [], _digits(summary)
    for row in summary.iter_rows(named=True):
        cells = [_value(row[key], row["is_twin"]) for key in keys]
        cells += [str(row["n"]), _number(row["mean"], digits)]
        cells.append(_interval(row["low"], row["high"], digits))
        for name in compared:
            prefix = name.removesuffix("difference")
            cells += [
                _number(row[name], digits),
                _interval(row[f"{name}_low"], row[f"{name}_high"], digits),
                _p_value(None if row[f"{name}_low"] is None else row[f"{prefix}p_adjusted"]),
            ]
        lines.append(cells)
    return _tabular("l" * len(keys) + "r" * (len(heads) - len(keys)), heads, lines)


def pivoted(summary: pl.DataFrame, keys: Sequence[str], pivot: str) -> str:
    """Return one metric's means and half intervals, a column a value of `pivot`.

    The non-private twin, which has no such value, is the last column.

    Args:
        summary: rows of `summary.parquet` of one metric.
        keys: the varied keys.
        pivot: of them.
    """
    private, digits = summary.filter(~pl.col("is_twin")), _digits(summary)
    others = [key for key in independent(private, [pivot, *keys]) if key != pivot]
    values = private[pivot].drop_nulls().unique().sort().to_list()
    twins = summary.filter("is_twin")
    heads = [*map(heading, others)]
    heads += [f"{heading(pivot)} = {_value(value, False)}" for value in values]
    heads += ["without DP"] if twins.height else []
    lines = []
    for setting in private.select(others).unique(maintain_order=True).to_dicts() or [{}]:
        cells = [_value(setting[key], False) for key in others]
        for value in values:
            cells.append(_estimate(of_setting(private, setting | {pivot: value}), digits))
        if twins.height:
            cells.append(_estimate(of_setting(twins, setting), digits))
        lines.append(cells)
    seeds = sorted(summary["n"].drop_nulls().unique())
    what = "mean and half of the 95 % interval" if summary["low"].count() else "mean"
    said = f"% {what}, over {', '.join(map(str, seeds))} seeds\n"
    return said + _tabular("l" * len(others) + "r" * (len(heads) - len(others)), heads, lines)


def heading(key: str) -> str:
    """Return how a table's head calls a configuration key."""
    known = {
        "privacy.epsilon": r"$\varepsilon$",
        "privacy.clip-norm": "$C$",
        "privacy.noise-multiplier": r"$\sigma$",
        "privacy.delta": r"$\delta$",
        "data.alpha": r"$\alpha$",
    }
    return known.get(key) or _escape(key.partition(".")[2].replace("-", " ").capitalize())


def _tabular(columns: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(heads),
        r"\midrule",
        *map(_row, lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(rows) + "\n"


def _estimate(rows: pl.DataFrame, digits: int) -> str:
    """Return the mean of the first row, and half its interval."""
    row = next(rows.iter_rows(named=True), None)
    if row is None or row["mean"] is None:
        return "--"
    if row["low"] is None or row["high"] is None:
        return _number(row["mean"], digits)
    half = (row["high"] - row["low"]) / 2
    return rf"${row['mean']:.{digits}f} \pm {half:.{digits}f}$"


def _digits(summary: pl.DataFrame) -> int:
    """Return the decimals of a table whose typical standard error then has two digits."""
    errors = summary["se"].cast(pl.Float64).drop_nulls().to_numpy()
    values = summary["mean"].cast(pl.Float64).drop_nulls().abs().to_numpy()
    sizes = errors[errors > 0] if (errors > 0).any() else values[values > 0] / 100
    if not sizes.size:
        return 2
    return max(0, 1 - math.floor(math.log10(np.median(sizes))))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _value(value: object, is_twin: bool) -> str:
    if value is None:
        return "no privacy" if is_twin else "--"
    return f"{value:g}" if isinstance(value, float) else _escape(str(value))


def _number(value: float | None, digits: int) -> str:
    return "--" if value is None else f"${value:.{digits}f}$"


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return "--" if low is None or high is None else f"$[{low:.{digits}f}, {high:.{digits}f}]$"


def _p_value(value: float | None) -> str:
    if value is None:
        return "--"
    return "$<0.001$" if value < 0.001 else f"${value:.3f}$"


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
