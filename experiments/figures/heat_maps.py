"""What privacy does to rates and coordination over ε and C, as heat maps with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import SEQUENTIAL
from experiments.figures.settings import CLIP_NORM, EPSILON, described, main_product, short, show
from experiments.figures.style import Panel, Sheet

_MAPS = (
    ("rate shift", (("firing_rate", "difference"), ("rate_shift", "mean")), "+.3f"),
    ("attenuation", (("attenuation", "mean"),), ".2f"),
    ("Kendall τ", (("kendall_tau_shadow", "mean"),), ".2f"),
    ("Jaccard", (("jaccard_shadow", "mean"),), ".2f"),
)
"""Name; (metric, column of the summary), the first that has values; format of the numbers."""


def heat_maps(summary: pl.DataFrame) -> Sheet:
    """Draw rate shift, attenuation, Kendall τ and Jaccard over ε (across) and C (up).

    The rate shift is the global model's rate minus its non-private twin's where the grid has twins,
    else the candidates' against their shadows. Where further axes vary, a cell is their mean, or
    that of the combination in which most cells of the grid lie.

    Raises:
        LeftOut: if ε and C do not both vary, or none of the four was measured.
    """
    rows = need(summary, [EPSILON, CLIP_NORM], of="the grid's summary").filter(~pl.col("is_twin"))
    for key in (EPSILON, CLIP_NORM):
        if rows[key].n_unique() < 2:
            raise LeftOut(f"{key} has a single value: nothing to lay out over ε and C")
    further = [key for key in rows.columns if "." in key and key not in (EPSILON, CLIP_NORM)]
    further = [key for key in further if rows[key].n_unique() > 1]
    usual = main_product(rows, further)
    for key, value in (usual or {}).items():
        rows = rows.filter(pl.col(key).eq_missing(pl.lit(value)))
    tables = {name: _first_with_values(rows, sources) for name, sources, _ in _MAPS}
    panels: list[Panel] = [
        partial(_panel, table, name, numbers)
        for name, _, numbers in _MAPS
        if (table := tables[name]) is not None
    ]
    if not panels:
        raise LeftOut("the summary has neither rate shift, attenuation, Kendall τ nor Jaccard")
    notes = []
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


def _panel(table: pl.DataFrame, name: str, numbers: str, axes: Axes) -> None:
    grid = table.sort(EPSILON).pivot(EPSILON, index=CLIP_NORM, values="value")
    grid = grid.sort(CLIP_NORM, descending=True)
    values = grid.drop(CLIP_NORM).cast(pl.Float64).to_numpy()
    sns.heatmap(
        values,
        mask=np.isnan(values),
        cmap=SEQUENTIAL,
        annot=_written(values, numbers) if values.shape[1] <= 8 else False,
        fmt="",
        annot_kws={"size": 6.5},
        linewidths=0.6,
        xticklabels=[show(value) for value in table[EPSILON].unique().sort()],
        yticklabels=[show(value) for value in grid[CLIP_NORM]],
        cbar_kws={"aspect": 14, "pad": 0.03},
        ax=axes,
    )
    axes.tick_params(rotation=0, length=0)
    axes.grid(visible=False)
    axes.set_title(name)
    axes.set(xlabel="ε", ylabel="C")


def _written(values: np.ndarray, numbers: str) -> np.ndarray:
    """Return the numbers as text: no negative zero, and a minus sign for the hyphen."""
    decimals = int(numbers[-2])
    rounded = np.round(values, decimals) + 0.0
    texts = [f"{value:{numbers}}".replace("-", "\N{MINUS SIGN}") for value in rounded.ravel()]
    return np.array(texts).reshape(values.shape)
