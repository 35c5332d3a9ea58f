"""What privacy does to rates and coordination over ε and C, as heat maps with their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import SEQUENTIAL, short, show
from experiments.figures.main_product import described, main_product
from experiments.figures.style import Columns, Panel, lay_out

EPSILON, CLIP_NORM = "privacy.epsilon", "privacy.clip-norm"
_MAPS = (
    ("rate shift", (("firing_rate", "difference"), ("rate_shift", "mean")), "+.3f"),
    ("attenuation", (("attenuation", "mean"),), ".2f"),
    ("Kendall τ", (("kendall_tau_shadow", "mean"),), ".2f"),
    ("Jaccard", (("jaccard_shadow", "mean"),), ".2f"),
)
"""Name; (metric, column of the summary), the first that has values; format of the numbers."""


def heat_maps(summary: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()) -> Figure:
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
    panels: list[Panel] = []
    absent: list[str] = []
    for name, sources, numbers in _MAPS:
        table = _first_with_values(rows, sources)
        if table is None:
            absent.append(name)
        else:
            panels.append(_panel(table, name, numbers))
    if not panels:
        raise LeftOut("the summary has neither rate shift, attenuation, Kendall τ nor Jaccard")
    notes = list(about)
    if usual:
        notes.append(f"Only cells of {described(usual)}.")
    elif further:
        notes.append(f"A cell is the mean over {', '.join(map(short, further))}.")
    if absent:
        notes.append(f"Not measured: {', '.join(absent)} (evaluation.shadow, twins).")
    title = "Rates and coordination over ε and the clipping bound C"
    return lay_out(panels, columns=columns, title=title, subtitle=notes)


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


def _panel(table: pl.DataFrame, name: str, numbers: str) -> Panel:
    def draw(axes: Axes) -> None:
        across = table[EPSILON].unique().sort().to_list()
        up = table[CLIP_NORM].unique().sort(descending=True).to_list()
        values = np.full((len(up), len(across)), np.nan)
        for epsilon, clip_norm, value in table.select(EPSILON, CLIP_NORM, "value").iter_rows():
            values[up.index(clip_norm), across.index(epsilon)] = value
        sns.heatmap(
            values,
            mask=np.isnan(values),
            cmap=SEQUENTIAL,
            annot=_written(values, numbers) if len(across) <= 8 else False,
            fmt="",
            annot_kws={"size": 6.5},
            linewidths=0.6,
            xticklabels=[show(value) for value in across],
            yticklabels=[show(value) for value in up],
            cbar_kws={"aspect": 14, "pad": 0.03},
            ax=axes,
        )
        axes.tick_params(rotation=0, length=0)
        axes.grid(visible=False)
        axes.set_title(name)
        axes.set(xlabel="ε", ylabel="C")

    return draw


def _written(values: np.ndarray, numbers: str) -> np.ndarray:
    """Return the numbers as text: no negative zero, and a minus sign for the hyphen."""
    decimals = int(numbers[-2])
    rounded = np.round(values, decimals) + 0.0
    texts = [f"{value:{numbers}}".replace("-", "\N{MINUS SIGN}") for value in rounded.ravel()]
    return np.array(texts).reshape(values.shape)
