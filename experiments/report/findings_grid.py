"""The headline findings of a grid: sentences with their numbers, computed from its summary."""

from __future__ import annotations

import polars as pl

from experiments.figures.grid_tables import GridTables
from experiments.figures.looks import short, show
from experiments.report.intervals import number, probability
from experiments.report.page import Finding

SIGNIFICANT = 0.05
_COMPARED = {
    "accuracy": ("Accuracy against no DP", ".1f", 100.0, " points"),
    "firing_rate": ("Rate shift", ".4f", 1.0, " spikes / neuron / step"),
    "energy_nj": ("Energy against no DP", ".1f", 1.0, " nJ"),
}
_MEANS = {
    "kendall_tau_shadow": "Ranking, Kendall τ",
    "attenuation": "Attenuation",
    "jaccard_shadow": "Selection, Jaccard",
}
_FULL = {"kendall_tau_shadow": "1 is the ranking without DP, 0 a random one"}


def findings_of_grid(grid: GridTables) -> list[Finding]:
    """Return what the grid found, also where nothing is significant."""
    found = [_cells(grid), *_best(grid)]
    for metric in _COMPARED:
        found += _compared(grid, metric)
    for metric in _MEANS:
        found += _range(grid, metric)
    return found


def configuration(grid: GridTables, row: dict[str, object]) -> str:
    """Return a configuration's varied keys as text."""
    if row["is_twin"]:
        return "no DP"
    varied = [key for key in grid.axes if grid.summary[key].drop_nulls().n_unique() > 1]
    known = [
        f"{short(key)}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{show(row[key])}"
        for key in varied
        if row[key] is not None
    ]
    return ", ".join(known) or "the only configuration"


def _cells(grid: GridTables) -> Finding:
    cells, finished = grid.cells.height, grid.finished.height
    counts = grid.cells.group_by("status").len().sort("status").iter_rows()
    states = ", ".join(f"{count} {status}" for status, count in counts)
    missing = "" if cells == finished else " The findings are of the finished ones only."
    return Finding("Cells", f"{finished} of {cells}", f"{states}.{missing}")


def _interval(row: dict[str, object], form: str, scale: float, prefix: str = "") -> str:
    low, high = row.get(f"{prefix}low"), row.get(f"{prefix}high")
    if low is None or high is None:
        return "no interval: one seed or no spread"
    shown = [number(float(str(edge)) * scale, form) for edge in (low, high)]
    return f"95 % bootstrap interval {shown[0]} to {shown[1]}"


def _best(grid: GridTables) -> list[Finding]:
    rows = grid.summary.filter(pl.col("metric") == "accuracy").drop_nulls("mean")
    private = rows.filter(~pl.col("is_twin")).sort("mean", descending=True)
    if not private.height:
        return []
    best = private.row(0, named=True)
    text = (
        f"The best mean accuracy of {private.height} configurations is at "
        f"{configuration(grid, best)}: {number(100 * best['mean'], '.1f')} % over {best['n']} "
        f"seeds ({_interval(best, '.1f', 100)}). The best of many is optimistic."
    )
    twins = rows.filter(pl.col("is_twin")).sort("mean", descending=True)
    if twins.height:
        twin = twins.row(0, named=True)
        text += (
            f" Without DP: {number(100 * twin['mean'], '.1f')} % ({_interval(twin, '.1f', 100)})."
        )
    return [Finding("Best accuracy", f"{100 * best['mean']:.1f} %", text)]


def _compared(grid: GridTables, metric: str) -> list[Finding]:
    """Say how many paired differences from the twins are significant, and the largest."""
    name, form, scale, unit = _COMPARED[metric]
    if "difference" not in grid.summary.columns:
        return []
    rows = grid.summary.filter((pl.col("metric") == metric) & ~pl.col("is_twin"))
    rows = rows.drop_nulls("difference")
    if not rows.height:
        return []
    tested = rows.drop_nulls("p_adjusted")
    significant = tested.filter(pl.col("p_adjusted") < SIGNIFICANT)
    shown = significant if significant.height else rows
    row = shown.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
    size = number(row["difference"] * scale, f"+{form}")
    interval = _interval(row, f"+{form}", scale, "difference_")
    p = probability(row["p_adjusted"])
    if not tested.height:
        verdict = f"None of the {rows.height} differences from the twin could be tested."
    elif significant.height:
        verdict = (
            f"{significant.height} of {tested.height} configurations differ from their twin "
            f"without DP (p < {SIGNIFICANT} after correction for many comparisons)."
        )
    else:
        verdict = (
            f"None of the {tested.height} differences from the twin without DP is significant "
            f"(p < {SIGNIFICANT} after correction for many comparisons); that is no proof of none."
        )
    text = (
        f"{verdict} The largest{' of them' if significant.height else ''}: {size}{unit} at "
        f"{configuration(grid, row)} ({interval}; {p}; {row['n']} seeds)."
    )
    head = f"{significant.height} of {tested.height} differ" if tested.height else "not tested"
    return [Finding(name, head, text)]


def _range(grid: GridTables, metric: str) -> list[Finding]:
    rows = grid.summary.filter((pl.col("metric") == metric) & ~pl.col("is_twin"))
    rows = rows.drop_nulls("mean").sort("mean")
    if not rows.height:
        return []
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    note = f" ({_FULL[metric]})" if metric in _FULL else ""
    if rows.height == 1:
        text = f"{number(low['mean'], '.2f')} ({_interval(low, '.2f', 1)}){note}."
        return [Finding(_MEANS[metric], number(low["mean"], ".2f"), text)]
    text = (
        f"From {number(low['mean'], '.2f')} at {configuration(grid, low)} "
        f"({_interval(low, '.2f', 1)}) to {number(high['mean'], '.2f')} at "
        f"{configuration(grid, high)} ({_interval(high, '.2f', 1)}){note}."
    )
    head = f"{number(low['mean'], '.2f')} to {number(high['mean'], '.2f')}"
    return [Finding(_MEANS[metric], head, text)]
