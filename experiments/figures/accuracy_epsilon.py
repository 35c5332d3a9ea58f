"""Accuracy against the privacy budget, with intervals over seeds, and the non-private twin."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.figures.left_out import need
from experiments.figures.looks import MOST_SERIES, graded_looks, short, show
from experiments.figures.main_product import described, main_product
from experiments.figures.style import PERCENT, Columns, Look, Panel, finish, lay_out

EPSILON, CLIP_NORM = "privacy.epsilon", "privacy.clip-norm"
MOST_PANELS = 8
_TITLE_LETTERS = 44
"""That fit above a panel, of two side by side."""
_TWIN = Look("0.35", (0, (6, 2)), "")


def accuracy_against_epsilon(
    summary: pl.DataFrame,
    *,
    columns: Columns = 2,
    about: Sequence[str] = (),
    metric: str = "accuracy",
) -> Figure:
    """Draw a metric's mean over seeds and its 95 % interval against ε.

    C, else the axis with the fewest values, gives the lines of a panel, the others' combinations
    the panels. Where most cells lie in one of these, the others are titled by what differs from it.

    Args:
        summary: a grid's `summary.parquet`.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.
        metric: of the summary.

    Raises:
        LeftOut: if ε is no axis, or the summary has no such metric.
    """
    rows = need(summary, [EPSILON, "metric", "mean"], of="the grid's summary")
    rows = need(
        rows.filter((pl.col("metric") == metric) & ~pl.col("is_twin")),
        [EPSILON, "mean"],
        of=f"the grid's summary of {metric}",
    )
    twins = summary.filter((pl.col("metric") == metric) & pl.col("is_twin"))
    lines, panel_keys = _split_axes(rows)
    values = rows.select(panel_keys).unique(maintain_order=True).rows() if panel_keys else [()]
    usual = main_product(rows, panel_keys)
    panels: list[Panel] = []
    for value in values[:MOST_PANELS]:
        chosen = dict(zip(panel_keys, value, strict=True))
        title = _title(chosen, usual)
        panels.append(_panel(_where(rows, chosen), _where(twins, chosen), lines, title, metric))
    notes = [*about, f"{_seeds(rows)} Lines: mean; bars and bands: 95 % interval over seeds."]
    if usual:
        notes.append(f"Where a panel says nothing else: {described(usual)}.")
    if len(values) > MOST_PANELS:
        notes.append(f"{len(values) - MOST_PANELS} further combinations of axes are not drawn.")
    return lay_out(
        panels,
        columns=columns,
        title=f"{metric.replace('_', ' ').capitalize()} against the privacy budget",
        subtitle=notes,
    )


def _title(chosen: Mapping[str, object], usual: Mapping[str, object] | None) -> str:
    """Return what a panel shows: all its values, or those that differ from the usual ones."""
    if usual is None:
        return textwrap.fill(described(chosen), _TITLE_LETTERS)
    differing = {key: value for key, value in chosen.items() if value != usual[key]}
    return textwrap.fill(described(differing) or "The grid's product", _TITLE_LETTERS)


def _split_axes(rows: pl.DataFrame) -> tuple[str | None, list[str]]:
    """Return the axis whose values are lines of a panel, and those that make panels."""
    others = [key for key in rows.columns if "." in key and key != EPSILON]
    varied = sorted(
        (key for key in others if rows[key].n_unique() > 1),
        key=lambda key: (not _is_bound(rows, key), *_few(rows, key)),
    )
    if not varied or rows[varied[0]].n_unique() > MOST_SERIES:
        return None, varied
    return varied[0], varied[1:]


def _is_bound(rows: pl.DataFrame, key: str) -> bool:
    """Return whether `key` is the clipping bound, with as many values as can be told apart."""
    return key == CLIP_NORM and rows[key].n_unique() <= MOST_SERIES


def _few(rows: pl.DataFrame, key: str) -> tuple[int, str]:
    return rows[key].n_unique(), key


def _where(table: pl.DataFrame, values: Mapping[str, object]) -> pl.DataFrame:
    """Return rows with these values; a twin, which has no privacy keys, matches any of them."""
    for key, value in values.items():
        same = pl.col(key).eq_missing(pl.lit(value))
        table = table.filter(same | (pl.col("is_twin") & pl.col(key).is_null()))
    return table


def _seeds(rows: pl.DataFrame) -> str:
    low, high = rows["n"].min(), rows["n"].max()
    many = str(low) if low == high else f"{low} to {high}"
    return f"{many} seed{'' if many == '1' else 's'} a point."


def _panel(
    rows: pl.DataFrame, twins: pl.DataFrame, line: str | None, title: str, metric: str
) -> Panel:
    def draw(axes: Axes) -> None:
        for twin in twins.unique(["mean", "low", "high"], maintain_order=True).iter_rows(
            named=True
        ):
            _draw_twin(axes, twin)
        values = rows[line].unique().sort().to_list() if line else [None]
        for value, look in zip(values, graded_looks(len(values)), strict=True):
            points = rows if line is None else rows.filter(pl.col(line).eq_missing(pl.lit(value)))
            label = f"_{metric}" if line is None else f"{short(line)} = {show(value)}"
            _draw_line(axes, points.sort(EPSILON), look, label)
        epsilons = rows[EPSILON].unique().sort().to_list()
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(epsilons))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(epsilons[0] / 1.25, epsilons[-1] * 1.25)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if metric == "accuracy":
            axes.yaxis.set_major_formatter(PERCENT)
        finish(axes, title, x="ε", y=metric.replace("_", " "))

    return draw


def _draw_twin(axes: Axes, twin: dict[str, float | None]) -> None:
    mean, low, high = twin["mean"], twin["low"], twin["high"]
    if mean is None:
        return
    first = not any(line.get_label() == "no DP" for line in axes.lines)
    axes.axhline(
        mean, color=_TWIN.colour, linestyle=_TWIN.line, label="no DP" if first else "_no DP"
    )
    if low is not None and high is not None:
        axes.axhspan(low, high, color="0.5", alpha=0.18, linewidth=0)


def _draw_line(axes: Axes, points: pl.DataFrame, look: Look, label: str) -> None:
    mean = points["mean"].to_numpy()
    low = points["low"].fill_null(points["mean"]).to_numpy()
    high = points["high"].fill_null(points["mean"]).to_numpy()
    axes.errorbar(
        points[EPSILON].to_numpy(),
        mean,
        yerr=[(mean - low).clip(0), (high - mean).clip(0)],
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        capsize=2,
        elinewidth=0.8,
        label=label,
    )
