"""Distributions of firing rates by layer, with and without differential privacy."""

from __future__ import annotations

from functools import partial

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import HATCHES, by_level
from experiments.figures.style import Sheet, finish

MOST_LEVELS = 4


def rate_distributions(rates: pl.DataFrame, *, of: str) -> Sheet:
    """Draw a box a layer and privacy level over the candidates' firing rates.

    Args:
        rates: `layer`, `firing_rate`, `level` (such as "ε = 4" or "no DP") and `level_order`, a row
            a (candidate, layer).
        of: which rounds they are of, a sentence.

    Raises:
        LeftOut: if there is no rate, or none without privacy to compare with.
    """
    rows = need(rates, ["layer", "firing_rate", "level"], of="the table of layers")
    if rows["level"].n_unique() < 2:
        raise LeftOut(f"all rates are of {rows['level'][0]}: nothing to compare with")
    notes = [
        f"{of} A value: a candidate's mean over the layer's neurons, after its training.",
        "Boxes: quartiles and median; whiskers: to 1.5 box lengths; points: beyond.",
    ]
    return Sheet("Firing rates by layer", [partial(_panel, rows)], notes, 2.4)


def _panel(rows: pl.DataFrame, axes: Axes) -> None:
    layers = rows["layer"].unique().sort().to_list()
    levels = list(by_level(rows, MOST_LEVELS))
    width = 0.8 / len(levels)
    for place, (level, look, of_level) in enumerate(levels):
        # matplotlib's, as seaborn 0.13's box plot is deprecated usage to matplotlib 3.11
        drawn = axes.boxplot(
            [of_level.filter(layer=layer)["firing_rate"].to_numpy() for layer in layers],
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
            box.set(facecolor=_tint(look.colour), hatch=HATCHES[place], edgecolor=look.colour)
    axes.set_xticks(range(len(layers)), [f"layer {layer}" for layer in layers])
    axes.set_xlim(-0.5, len(layers) - 0.5)
    finish(axes, "Candidates, own clips", x="", y="spikes / neuron / step")


def _tint(colour: str) -> tuple[float, float, float]:
    """Return a light tint, before which hatching and median stay visible."""
    red, green, blue = sns.light_palette(colour, 5)[1]
    return red, green, blue
