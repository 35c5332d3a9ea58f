"""The Pareto front of accuracy, privacy budget and energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import graded_looks, levels_of, spread
from experiments.figures.style import PERCENT, Columns, Panel, finish, lay_out


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
    wide = rows.group_by([*keys, "is_twin", "level", "level_order"], maintain_order=True).agg(
        *(pl.col("mean").filter(pl.col("metric") == name).first().alias(name) for name in wanted),
        pl.col("low").filter(pl.col("metric") == "accuracy").first(),
        pl.col("high").filter(pl.col("metric") == "accuracy").first(),
    )
    wide = need(wide, ["accuracy", "energy_nj"], of="the grid's summary")
    budget = pl.col("privacy.epsilon") if "privacy.epsilon" in keys else pl.lit(None, pl.Float64)
    spent = pl.coalesce("epsilon_max", budget.cast(pl.Float64))
    wide = wide.with_columns(
        epsilon=pl.when(pl.col("level_order").is_infinite()).then(np.inf).otherwise(spent)
    ).drop_nulls("epsilon")
    if wide["epsilon"].n_unique() < 2:
        raise LeftOut("all configurations have the same ε: there is no trade-off to draw")
    costs = np.column_stack([-wide["accuracy"].to_numpy(), wide["epsilon"], wide["energy_nj"]])
    return wide.with_columns(on_front=pl.Series(non_dominated(costs)))


def pareto_front(
    summary: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()
) -> Figure:
    """Draw accuracy against energy, a look an ε; filled: on the front of all three.

    Raises:
        LeftOut: as `objectives`.
    """
    table = objectives(summary)
    panels: list[Panel] = [_panel(table)]
    notes = [
        *about,
        f"Filled: the {table['on_front'].sum()} of {table.height} configurations that none other "
        "matches in accuracy, ε and energy and beats in one. Bars: 95 % interval of accuracy.",
    ]
    title = "Accuracy, privacy and energy: the Pareto front"
    return lay_out(panels, columns=columns, title=title, subtitle=notes, panel_inches=2.8)


def _panel(table: pl.DataFrame) -> Panel:
    def draw(axes: Axes) -> None:
        levels = spread(levels_of(table))
        for level, look in zip(levels, graded_looks(len(levels)), strict=True):
            rows = table.filter(pl.col("level") == level)
            front = rows.filter("on_front").sort("energy_nj")
            axes.plot(front["energy_nj"], front["accuracy"], color=look.colour, linestyle=look.line)
            for on_front in (False, True):
                points = rows.filter(pl.col("on_front") == on_front)
                mean = points["accuracy"].to_numpy()
                below = mean - points["low"].fill_null(points["accuracy"]).to_numpy()
                above = points["high"].fill_null(points["accuracy"]).to_numpy() - mean
                axes.errorbar(
                    points["energy_nj"].to_numpy(),
                    mean,
                    yerr=[below.clip(0), above.clip(0)],
                    linestyle="",
                    marker=look.marker,
                    color=look.colour,
                    markerfacecolor=look.colour if on_front else "white",
                    markersize=5,
                    elinewidth=0.6,
                    label="_" + level,
                )
            axes.plot(
                [], [], color=look.colour, linestyle=look.line, marker=look.marker, label=level
            )
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.yaxis.set_major_formatter(PERCENT)
        finish(axes, "", x="energy of an inference (nJ)", y="accuracy")

    return draw
