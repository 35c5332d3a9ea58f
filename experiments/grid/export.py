"""A grid's tables for people and papers: CSV, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

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


def write_latex(directory: GridDirectory, metrics: Sequence[str]) -> list[Path]:
    """Write a booktabs table a metric from the summary and return the files.

    Raises:
        ConfigError: if the summary has no such metric.
    """
    summary = read_parquet(directory.path / "summary.parquet")
    known = summary["metric"].unique().sort().to_list()
    keys = [key for key in directory.manifest().keys if key != SEED]
    written = []
    for metric in metrics:
        if metric not in known:
            raise ConfigError(f"--metric {metric!r} is not measured: choose of {', '.join(known)}")
        path = directory.path / f"{metric}.tex"
        text = latex(summary.filter(metric=metric), keys)
        try:
            write_text_atomically(path, text)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None
        written.append(path)
    return written


def latex(summary: pl.DataFrame, keys: Sequence[str]) -> str:
    """Return one metric's summary as a LaTeX tabular (needs the package booktabs).

    Args:
        summary: rows of `summary.parquet` of one metric.
        keys: the varied keys, a column each.
    """
    columns = ["difference", "baseline_difference"]
    compared = [name for name in columns if summary[name].count()]
    heads = [*map(_escape, keys), "$n$", "mean", r"95\,\% interval"]
    for name in compared:
        partner = "twin" if name == "difference" else "baseline"
        heads += [f"less {partner}", r"95\,\% interval", "$p$ (Holm)"]
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(keys)}{'r' * (len(heads) - len(keys))}}}",
        r"\toprule",
        _row(heads),
        r"\midrule",
    ]
    for row in summary.iter_rows(named=True):
        cells = [_value(row[key], row["is_twin"]) for key in keys]
        cells += [str(row["n"]), _number(row["mean"]), _interval(row["low"], row["high"])]
        for name in compared:
            prefix = name.removesuffix("difference")
            cells += [
                _number(row[name]),
                _interval(row[f"{name}_low"], row[f"{name}_high"]),
                _p_value(row[f"{prefix}p_adjusted"]),
            ]
        lines.append(_row(cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _value(value: object, is_twin: bool) -> str:
    if value is None:
        return "no privacy" if is_twin else "--"
    return f"{value:g}" if isinstance(value, float) else _escape(str(value))


def _number(value: float | None) -> str:
    return "--" if value is None else f"${value:.4g}$"


def _interval(low: float | None, high: float | None) -> str:
    return "--" if low is None or high is None else f"$[{low:.4g}, {high:.4g}]$"


def _p_value(value: float | None) -> str:
    if value is None:
        return "--"
    return "$<0.001$" if value < 0.001 else f"${value:.3f}$"


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
