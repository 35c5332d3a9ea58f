"""Distributions of firing rates by layer, with and without differential privacy."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.left_out import LeftOut, need
from experiments.figures.looks import HATCHES, graded_looks, levels_of, spread
from experiments.figures.style import Columns, Panel, finish, lay_out

MOST_LEVELS = 4


def rate_distributions(
    rates: pl.DataFrame, *, columns: Columns = 2, about: Sequence[str] = ()
) -> Figure:
    """Draw a box a layer and privacy level over the candidates' firing rates.

    Args:
        rates: `layer`, `firing_rate`, `level` (such as "ε = 4" or "no DP") and `level_order`, a row
            a (candidate, layer).
        columns: width of the figure in columns of a paper.
        about: sentences under the title.

    Raises:
        LeftOut: if there is no rate, or none without privacy to compare with.
    """
    rows = need(rates, ["layer", "firing_rate", "level"], of="the table of layers")
    levels = spread(levels_of(rows), MOST_LEVELS)
    if len(levels) < 2:
        raise LeftOut(f"all rates are of {levels[0]}: nothing to compare with")
    layers = rows["layer"].unique().sort().to_list()
    panels: list[Panel] = [_panel(rows, layers, levels)]
    notes = [*about, "Boxes: quartiles and median; whiskers: to 1.5 box lengths; points: beyond."]
    return lay_out(
        panels, columns=columns, title="Firing rates by layer", subtitle=notes, panel_inches=2.4
    )


def _panel(rows: pl.DataFrame, layers: list[int], levels: list[str]) -> Panel:
    def draw(axes: Axes) -> None:
        width = 0.8 / len(levels)
        styles = zip(levels, graded_looks(len(levels)), HATCHES, strict=False)
        for place, (level, look, hatch) in enumerate(styles):
            of_level = rows.filter(pl.col("level") == level)
            rates = [
                of_level.filter(pl.col("layer") == layer)["firing_rate"].to_numpy()
                for layer in layers
            ]
            # matplotlib's, as seaborn 0.13's box plot is deprecated usage to matplotlib 3.11
            drawn = axes.boxplot(
                rates,
                positions=[at + (place + 0.5) * width - 0.4 for at in range(len(layers))],
                widths=0.82 * width,
                patch_artist=True,
                manage_ticks=False,
                label=level,
                medianprops={"color": "black", "linewidth": 1.4},
                whiskerprops={"color": look.colour, "linewidth": 0.8},
                capprops={"color": look.colour, "linewidth": 0.8},
                flierprops={"marker": ".", "markersize": 2, "markeredgecolor": look.colour},
            )
            for box in drawn["boxes"]:
                box.set(facecolor=_tint(look.colour), hatch=hatch, edgecolor=look.colour)
        axes.set_xticks(range(len(layers)), [f"layer {layer}" for layer in layers])
        axes.set_xlim(-0.5, len(layers) - 0.5)
        finish(axes, "Candidates, own clips", x="", y="spikes / neuron / step")

    return draw


def _tint(colour: str) -> tuple[float, float, float]:
    """Return a light tint, before which hatching and median stay visible."""
    red, green, blue = sns.light_palette(colour, 5)[1]
    return red, green, blue
