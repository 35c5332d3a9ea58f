"""What an audit could show: lower bounds on ε against what is claimed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import need
from experiments.figures.style import FOURTH, MAIN, Columns, Panel, finish, lay_out

_BROKEN = "#222222"


def audit_bounds(audit: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()) -> Figure:
    """Draw a row an audited mechanism: the empirical lower bound on ε and the claimed ε.

    A sound mechanism's lower bound lies left of its claim; one to the right refutes it.

    Args:
        audit: `audit.parquet`: `target`, `mechanism`, `claimed_epsilon`, `lower_bound`,
            `confidence`, `canaries`, and `auc` where there is one.
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if nothing was audited.
    """
    rows = need(audit, ["target", "mechanism", "lower_bound"], of="the table of audits")
    panels: list[Panel] = [_panel(rows)]
    levels = sorted({f"{100 * value:g} %" for value in rows["confidence"].drop_nulls()})
    notes = [
        *about,
        f"A lower bound holds with confidence {', '.join(levels)}; none should exceed its claim.",
    ]
    return lay_out(
        panels,
        columns=columns,
        title="Audit: empirical lower bounds on ε",
        subtitle=notes,
        panel_inches=0.7 + 0.36 * max(rows.height, 3),
    )


def _panel(rows: pl.DataFrame) -> Panel:
    def draw(axes: Axes) -> None:
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
            refuted = claimed is not None and bound > claimed
            if claimed is not None:
                axes.plot([bound, claimed], [place, place], color="0.7", linewidth=1, zorder=1)
                axes.plot(
                    claimed,
                    place,
                    "|",
                    color=FOURTH.colour,
                    markersize=12,
                    markeredgewidth=2,
                    label="claimed ε" if not _labelled(axes, "claimed ε") else "_claimed",
                )
            label = "refutes the claim" if refuted else "lower bound"
            axes.plot(
                bound,
                place,
                "X" if refuted else MAIN.marker,
                color=_BROKEN if refuted else MAIN.colour,
                markersize=7 if refuted else 5,
                label=label if not _labelled(axes, label) else f"_{label}",
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

    return draw


def _labelled(axes: Axes, label: str) -> bool:
    return any(line.get_label() == label for line in axes.lines)
