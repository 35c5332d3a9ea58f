"""The Pareto front of accuracy, privacy budget and energy."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import by_level, mean_with_interval
from experiments.figures.style import PERCENT, Sheet, finish

LEAST_SPREAD = 0.02
"""Of the energies, as a share of the largest: below, a front would be drawn through noise."""


def non_dominated(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows no other row beats in one column without losing in another.

    Args:
        costs: float64 [n, k], smaller is better in every column.
    """
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    beaten = np.asarray(no_worse & better).any(axis=0)
    return np.logical_not(beaten)


def objectives(summary: pl.DataFrame) -> pl.DataFrame:
    """Return a row a configuration: `accuracy`, its interval, `energy_nj`, `epsilon`, `on_front`.

    `epsilon` is what was spent where the summary has it, else the budget; infinite without privacy.

    Args:
        summary: a grid's `summary.parquet` with `level` and `level_order`.

    Raises:
        LeftOut: if accuracy or energy was not measured, or no configuration has an ε.
    """
    keys = [key for key in summary.columns if "." in key]
    wanted = ("accuracy", "energy_nj", "epsilon_max")
    rows = need(summary, ["metric", "mean"], of="the grid's summary")
    rows = rows.filter(pl.col("metric").is_in(wanted))
    of_accuracy = [pl.col(end).filter(metric="accuracy").first() for end in ("low", "high")]
    wide = rows.group_by([*keys, "is_twin", "level", "level_order"], maintain_order=True).agg(
        *(pl.col("mean").filter(metric=name).first().alias(name) for name in wanted), *of_accuracy
    )
    wide = need(wide, ["accuracy", "energy_nj"], of="the grid's summary")
    budget = pl.col("privacy.epsilon") if "privacy.epsilon" in keys else pl.lit(None, pl.Float64)
    spent = pl.coalesce("epsilon_max", budget.cast(pl.Float64))
    wide = wide.with_columns(
        epsilon=pl.when(pl.col("level_order").is_infinite()).then(np.inf).otherwise(spent)
    ).drop_nulls("epsilon")
    if wide["epsilon"].n_unique() < 2:
        raise LeftOut("all configurations have the same ε: there is no trade-off to draw")
    energies = wide["energy_nj"].to_numpy()
    if np.ptp(energies) < LEAST_SPREAD * energies.max():
        raise LeftOut(
            f"all configurations take the same energy within {100 * LEAST_SPREAD:g} %: it trades "
            "against nothing"
        )
    costs = np.column_stack([-wide["accuracy"].to_numpy(), wide["epsilon"], wide["energy_nj"]])
    return wide.with_columns(on_front=pl.Series(non_dominated(costs)))


def pareto_front(summary: pl.DataFrame) -> Sheet:
    """Draw accuracy against energy, a look an ε; filled: on the front of all three.

    Raises:
        LeftOut: as `objectives`.
    """
    table = objectives(summary)
    note = (
        f"Filled: the {table['on_front'].sum()} of {table.height} configurations that none other "
        "matches in accuracy, ε and energy and beats in one. Bars: 95 % interval of accuracy."
    )
    title = "Accuracy, privacy and energy: the Pareto front"
    return Sheet(title, [partial(_panel, table)], [note], 2.8)


def _panel(table: pl.DataFrame, axes: Axes) -> None:
    for level, look, rows in by_level(table):
        front = rows.filter("on_front").sort("energy_nj")
        line = {"color": look.colour, "linestyle": look.line}
        axes.plot(front["energy_nj"], front["accuracy"], **line)
        for on_front in (False, True):
            points = rows.filter(pl.col("on_front") == on_front)
            style = {"markerfacecolor": look.colour if on_front else "white", "label": "_" + level}
            style |= {"linestyle": "", "markersize": 5, "elinewidth": 0.6}
            mean_with_interval(axes, points, "energy_nj", "accuracy", look, **style)
        axes.plot([], [], marker=look.marker, label=level, **line)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.yaxis.set_major_formatter(PERCENT)
    finish(axes, "", x="energy of an inference (nJ)", y="accuracy")
