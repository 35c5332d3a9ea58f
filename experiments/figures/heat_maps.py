"""What privacy does to rates and coordination over ε and C, as heat maps with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.chance import expected_jaccard, tau_band
from experiments.figures.looks import CENTRED, SEQUENTIAL
from experiments.figures.settings import (
    CLIP_NORM,
    EPSILON,
    described,
    independent,
    main_product,
    short,
    show,
)
from experiments.figures.style import Panel, Sheet
from fnl.fidelity.rules import UNRANKED


@dataclass(frozen=True)
class Map:
    """One quantity of the figure.

    Attributes:
        name: its title.
        sources: (metric, column of the summary); the first that has values.
        numbers: format of what is written into the cells.
        ends: of its colours, the same in every figure; what lies beyond has the end's.
        colours: a map of them.
        floor: metric of the summary: the same without privacy, other draws of mini-batches.
    """

    name: str
    sources: tuple[tuple[str, str], ...]
    numbers: str
    ends: tuple[float, float]
    colours: str
    floor: str = ""


_MAPS = (
    Map(
        "rate shift",
        (("firing_rate", "difference"), ("rate_shift", "mean")),
        "+.3f",
        (-0.05, 0.05),
        CENTRED,
    ),
    Map("attenuation", (("attenuation", "mean"),), ".2f", (0, 2), CENTRED),
    Map(
        "Kendall τ", (("kendall_tau_shadow", "mean"),), ".2f", (-1, 1), CENTRED, "kendall_tau_floor"
    ),
    Map("Jaccard", (("jaccard_shadow", "mean"),), ".2f", (0, 1), SEQUENTIAL, "jaccard_floor"),
)


def heat_maps(summary: pl.DataFrame, asked: tuple[int, int] | None = None) -> Sheet:
    """Draw rate shift, attenuation, Kendall τ and Jaccard over ε (across) and C (up).

    The rate shift is the global model's rate minus its non-private twin's where the grid has twins,
    else the candidates' against their shadows. Where further axes vary, a cell is their mean, or
    that of the combination in which most cells of the grid lie. Scales are fixed, so that noise
    around 0 looks like noise; marks beside them are what random rankings and the floor have.

    Args:
        summary: a grid's `summary.parquet`.
        asked: candidates and selected of all cells; None where they vary.

    Raises:
        LeftOut: if ε and C do not both vary, or none of the four was measured.
    """
    rows = need(summary, [EPSILON, CLIP_NORM], of="the grid's summary").filter(~pl.col("is_twin"))
    for key in (EPSILON, CLIP_NORM):
        if rows[key].n_unique() < 2:
            raise LeftOut(f"{key} has a single value: nothing to lay out over ε and C")
    further = [key for key in rows.columns if "." in key and key not in (EPSILON, CLIP_NORM)]
    further = independent(rows, [key for key in further if rows[key].n_unique() > 1])
    usual = main_product(rows, further)
    for key, value in (usual or {}).items():
        rows = rows.filter(pl.col(key).eq_missing(pl.lit(value)))
    ranked = rows
    if (key := "coordination.selection") in rows.columns:  # of lots and turns there is no ranking
        ranked = rows.filter(~pl.col(key).is_in(UNRANKED))
    tables = {
        one.name: _first_with_values(ranked if one.floor else rows, one.sources) for one in _MAPS
    }
    panels: list[Panel] = []
    notes = []
    for one in _MAPS:
        table = tables[one.name]
        if table is not None:
            marks = _marks(one, rows, asked)
            panels.append(partial(_panel, table, one, [value for value, _ in marks]))
            notes += [f"{one.name}: {said}." for _, said in marks if said]
    if not panels:
        raise LeftOut("the summary has neither rate shift, attenuation, Kendall τ nor Jaccard")
    if usual:
        notes.append(f"Only cells of {described(usual)}.")
    elif further:
        notes.append(f"A cell is the mean over {', '.join(map(short, further))}.")
    if absent := [name for name, table in tables.items() if table is None]:
        notes.append(f"Not measured: {', '.join(absent)} (evaluation.shadow, twins).")
    return Sheet("Rates and coordination over ε and the clipping bound C", panels, notes)


def _first_with_values(
    rows: pl.DataFrame, sources: Sequence[tuple[str, str]]
) -> pl.DataFrame | None:
    """Return ε, C and the mean of the first (metric, column) that has values."""
    for metric, column in sources:
        if column not in rows.columns:
            continue
        known = rows.filter(pl.col("metric") == metric).drop_nulls(column)
        if known.height:
            return known.group_by(EPSILON, CLIP_NORM).agg(pl.col(column).mean().alias("value"))
    return None


def _marks(one: Map, rows: pl.DataFrame, asked: tuple[int, int] | None) -> list[tuple[float, str]]:
    """Return values to mark beside a scale, and what they are."""
    marks: list[tuple[float, str]] = []
    if asked is not None and one.name == "Kendall τ":
        of_tau = rows.filter(metric=one.sources[0][0])
        runs = int(of_tau.group_by(EPSILON, CLIP_NORM).agg(pl.col("n").sum())["n"].to_numpy().min())
        band = tau_band(asked[0], runs)
        over = f", means of {runs} runs," if runs > 1 else ""
        marks = [(-band, ""), (band, f"random rankings{over} lie within ±{band:.2f} (95 %)")]
    if asked is not None and one.name == "Jaccard":
        chance = expected_jaccard(*asked)
        marks = [(chance, f"two random selections have {chance:.2f} on average")]
    floor = rows.filter(metric=one.floor)["mean"].drop_nulls() if one.floor else pl.Series()
    if floor.len():
        value = float(str(floor.mean()))
        marks.append((value, f"the floor, without privacy, has {value:.2f}"))
    return marks


def _panel(table: pl.DataFrame, one: Map, marks: Sequence[float], axes: Axes) -> None:
    grid = table.sort(EPSILON).pivot(EPSILON, index=CLIP_NORM, values="value")
    grid = grid.sort(CLIP_NORM, descending=True)
    values = grid.drop(CLIP_NORM).cast(pl.Float64).to_numpy()
    sns.heatmap(
        values,
        mask=np.isnan(values),
        cmap=one.colours,
        vmin=one.ends[0],
        vmax=one.ends[1],
        annot=_written(values, one.numbers) if values.shape[1] <= 8 else False,
        fmt="",
        annot_kws={"size": 6.5},
        linewidths=0.6,
        xticklabels=[show(value) for value in table[EPSILON].unique().sort()],
        yticklabels=[show(value) for value in grid[CLIP_NORM]],
        cbar_kws={"aspect": 14, "pad": 0.03, "extend": _extend(values, one.ends)},
        ax=axes,
    )
    scale: Any = axes.collections[0].colorbar
    for mark in marks:
        scale.ax.axhline(mark, color="black", linewidth=1.2)
    axes.tick_params(rotation=0, length=0)
    axes.grid(visible=False)
    axes.set_title(one.name)
    axes.set(xlabel="ε", ylabel="C")


def _extend(values: np.ndarray, ends: tuple[float, float]) -> str:
    """Return which ends of a colour scale have values beyond them."""
    below, above = np.nanmin(values) < ends[0], np.nanmax(values) > ends[1]
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "neither"
    )


def _written(values: np.ndarray, numbers: str) -> np.ndarray:
    """Return the numbers as text: no negative zero, and a minus sign for the hyphen."""
    decimals = int(numbers[-2])
    rounded = np.round(values, decimals) + 0.0
    texts = [f"{value:{numbers}}".replace("-", "\N{MINUS SIGN}") for value in rounded.ravel()]
    return np.array(texts).reshape(values.shape)
