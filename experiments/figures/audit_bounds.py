"""What an audit could show: lower bounds on ε against what is claimed."""

from __future__ import annotations

from functools import partial

import polars as pl
from matplotlib.axes import Axes

from experiments.figures.catalogue import need
from experiments.figures.style import FOURTH, MAIN, Sheet, finish

_BROKEN = "#222222"


def audit_bounds(audit: pl.DataFrame) -> Sheet:
    """Draw a row an audited mechanism: the empirical lower bound on ε and the claimed ε.

    A sound mechanism's lower bound lies left of its claim; one to the right refutes it.

    Args:
        audit: `audit.parquet`: `target`, `mechanism`, `claimed_epsilon`, `lower_bound`,
            `confidence`, `canaries`, and `auc` where there is one.

    Raises:
        LeftOut: if nothing was audited.
    """
    rows = need(audit, ["target", "mechanism", "lower_bound"], of="the table of audits")
    levels = sorted({f"{100 * value:g} %" for value in rows["confidence"].drop_nulls()})
    note = f"A lower bound holds with confidence {', '.join(levels)}; none should exceed its claim."
    inches = 0.7 + 0.36 * max(rows.height, 3)
    return Sheet("Audit: empirical lower bounds on ε", [partial(_panel, rows)], [note], inches)


def _panel(rows: pl.DataFrame, axes: Axes) -> None:
    named: set[str] = set()  # in the legend

    def label(name: str) -> str:
        known = name in named
        named.add(name)
        return f"_{name}" if known else name

    for place, row in enumerate(rows.iter_rows(named=True)):
        claimed, bound = row["claimed_epsilon"], row["lower_bound"]
        auc = f", AUC {row['auc']:.2f}" if row.get("auc") is not None else ""
        axes.annotate(
            f"{row['target']}: {row['mechanism']}{auc}",
            xy=(0, place),
            xycoords=("axes fraction", "data"),
            xytext=(3, 9),
            textcoords="offset points",
            va="center",
            size=7,
            color="0.35",
        )
        if claimed is not None:
            axes.plot([bound, claimed], [place, place], color="0.7", linewidth=1, zorder=1)
            bar = {"color": FOURTH.colour, "markersize": 12, "markeredgewidth": 2}
            axes.plot(claimed, place, "|", label=label("claimed ε"), **bar)
        refuted = claimed is not None and bound > claimed
        axes.plot(
            bound,
            place,
            "X" if refuted else MAIN.marker,
            color=_BROKEN if refuted else MAIN.colour,
            markersize=7 if refuted else 5,
            label=label("refutes the claim" if refuted else "lower bound"),
            linestyle="",
            zorder=3,
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(rows.height - 0.6, -0.7)
    axes.set_xlim(left=min(0.0, float(str(rows["lower_bound"].min()))) - 0.05)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    finish(axes, "", x="ε", y="")
