"""The headline findings of a grid: sentences with their numbers, computed from its summary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from experiments.figures.grid_tables import GridTables
from experiments.figures.settings import short, show
from experiments.grid.statistics import FEWEST
from experiments.report.intervals import number, probability
from experiments.report.page import Finding
from fnl.fidelity.rules import UNRANKED

SIGNIFICANT = 0.05
_COMPARED = {
    "accuracy": ("Accuracy", ".1f", 100.0, " points"),
    "firing_rate": ("Firing rate", ".4f", 1.0, " spikes / neuron / step"),
    "energy_nj": ("Energy", ".1f", 1.0, " nJ"),
}


class _Partner(NamedTuple):
    """What configurations are compared with: prefix of the summary's columns, and in words."""

    prefix: str
    short: str
    name: str


_TWIN = _Partner("", "no DP", "their twin without DP")
_BASELINE = _Partner("baseline_", "the baseline", "the grid's baseline")
_MEANS = {
    "kendall_tau_shadow": "Ranking, Kendall τ",
    "attenuation": "Attenuation",
    "jaccard_shadow": "Selection, Jaccard",
}
_OF_RANKINGS = ("kendall_tau_shadow", "jaccard_shadow")
_SELECTION = "coordination.selection"
_FULL = {"kendall_tau_shadow": "1 is the ranking without DP, 0 a random one"}


def findings_of_grid(grid: GridTables) -> list[Finding]:
    """Return what the grid found, also where nothing is significant."""
    found = [_cells(grid), *_best(grid)]
    for metric in _COMPARED:
        found += _compared(grid, metric, _TWIN)
        found += _compared(grid, metric, _BASELINE)
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
        return "no interval: fewer than three seeds, or no spread"
    shown = [number(float(str(edge)) * scale, form) for edge in (low, high)]
    return f"95 % interval {shown[0]} to {shown[1]}"


def _best(grid: GridTables) -> Iterator[Finding]:
    rows = grid.summary.filter(metric="accuracy").drop_nulls("mean").sort("mean", descending=True)
    private, twins = rows.filter(~pl.col("is_twin")), rows.filter("is_twin")
    if not private.height:
        return
    best = private.row(0, named=True)
    text = (
        f"The best mean accuracy of {private.height} configurations is at "
        f"{configuration(grid, best)}: {number(100 * best['mean'], '.1f')} % over {best['n']} "
        f"seeds ({_interval(best, '.1f', 100)}). The best of many is optimistic."
    )
    if twins.height:
        twin = twins.row(0, named=True)
        text += (
            f" Without DP: {number(100 * twin['mean'], '.1f')} % ({_interval(twin, '.1f', 100)})."
        )
    yield Finding("Best accuracy", f"{100 * best['mean']:.1f} %", text)


def _compared(grid: GridTables, metric: str, partner: _Partner) -> Iterator[Finding]:
    """Say how many paired differences from a partner are significant, and the largest."""
    name, form, scale, unit = _COMPARED[metric]
    name = f"{name} against {partner.short}"
    difference, p_adjusted = f"{partner.prefix}difference", f"{partner.prefix}p_adjusted"
    rows = _private(grid, metric, difference)
    if not rows.height:
        return
    tested = rows.filter(pl.col("n") >= FEWEST).drop_nulls(p_adjusted)
    significant = tested.filter(pl.col(p_adjusted) < SIGNIFICANT)
    shown = significant if significant.height else rows
    row = shown.sort(pl.col(difference).abs(), descending=True).row(0, named=True)
    size = number(row[difference] * scale, f"+{form}")
    interval = _interval(row, f"+{form}", scale, f"{difference}_")
    level = f"p < {SIGNIFICANT} after correction for many comparisons"
    head = f"{significant.height} of {tested.height} differ"
    if not tested.height:
        head = "not tested"
        verdict = f"None of the {rows.height} differences from {partner.name} could be tested."
    elif significant.height:
        verdict = (
            f"{significant.height} of {tested.height} configurations differ from {partner.name} "
            f"({level})."
        )
    else:
        verdict = (
            f"None of the {tested.height} differences from {partner.name} is significant "
            f"({level}); that is no proof of none."
        )
    level = f"{probability(row[p_adjusted])}; " if row["n"] >= FEWEST else ""
    text = (
        f"{verdict} The largest{' of them' if significant.height else ''}: {size}{unit} at "
        f"{configuration(grid, row)} ({interval}; {level}{row['n']} seeds)."
    )
    yield Finding(name, head, text)


def _range(grid: GridTables, metric: str) -> Iterator[Finding]:
    rows = _private(grid, metric, "mean").sort("mean")
    drawn = ""
    if metric in _OF_RANKINGS and _SELECTION in rows.columns:
        known = rows.height
        rows = rows.filter(~pl.col(_SELECTION).is_in(UNRANKED))
        drawn = " Rules that draw lots or take turns have no ranking and are left out." * (
            rows.height < known
        )
    if not rows.height:
        return
    low, high = rows.row(0, named=True), rows.row(-1, named=True)
    note = f" ({_FULL[metric]})" if metric in _FULL else ""
    means = [number(row["mean"], ".2f") for row in (low, high)]
    intervals = [_interval(row, ".2f", 1) for row in (low, high)]
    if rows.height == 1:
        yield Finding(_MEANS[metric], means[0], f"{means[0]} ({intervals[0]}){note}.{drawn}")
        return
    text = (
        f"From {means[0]} at {configuration(grid, low)} ({intervals[0]}) to {means[1]} at "
        f"{configuration(grid, high)} ({intervals[1]}){note}.{drawn}"
    )
    yield Finding(_MEANS[metric], " to ".join(means), text)


def _private(grid: GridTables, metric: str, column: str) -> pl.DataFrame:
    """Return the private configurations of which the summary has this."""
    if column not in grid.summary.columns:
        return grid.summary.clear()
    return grid.summary.filter(~pl.col("is_twin"), metric=metric).drop_nulls(column)
