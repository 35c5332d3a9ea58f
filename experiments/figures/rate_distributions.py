"""Distributions of firing rates by layer, with and without differential privacy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from scipy import stats

from experiments.figures.catalogue import LeftOut, need
from experiments.figures.looks import HATCHES, by_level
from experiments.figures.settings import WITHOUT_DP
from experiments.figures.style import Sheet, finish

MOST_LEVELS = 4
_NORMAL_95 = float(stats.norm.ppf(0.975))


def rate_distributions(rates: pl.DataFrame, *, of: str) -> Sheet:
    """Draw a box a layer and privacy level over the candidates' firing rates.

    Args:
        rates: `layer`, `firing_rate`, `level` (such as "ε = 4" or "no DP") and `level_order`, a row
            a (candidate, layer), and `rate_noise`, the deviation of the noise in `firing_rate`;
            null where there is none.
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
    noisy = rows.drop_nulls("rate_noise").group_by("level", "level_order", maintain_order=True)
    noise = noisy.agg(pl.col("rate_noise").mean()).sort("level_order")
    if noise.height:
        sizes = ", ".join(
            f"{sd:.2g} at {level}" for level, sd in noise.select("level", "rate_noise").iter_rows()
        )
        notes += [
            f"Under DP as released, with noise of sd {sizes}; {WITHOUT_DP}: without that noise.",
            f"Grey bars: where 95 % of releases of the median with {WITHOUT_DP} lie. A box no "
            "wider shows the noise of the release, not an effect of DP on the network.",
        ]
    title = "Firing rates by layer" + (", as released under DP" if noise.height else "")
    spread = dict(noise.select("level", "rate_noise").iter_rows())
    return Sheet(title, [partial(_panel, rows, spread)], notes, 2.4)


def _panel(rows: pl.DataFrame, noise: Mapping[str, float], axes: Axes) -> None:
    layers = rows["layer"].unique().sort().to_list()
    levels = list(by_level(rows, MOST_LEVELS))
    width = 0.8 / len(levels)
    clear = rows.filter(level=WITHOUT_DP).group_by("layer").agg(pl.col("firing_rate").median())
    centres = dict(clear.select("layer", "firing_rate").iter_rows())
    for place, (level, look, of_level) in enumerate(levels):
        for at, layer in enumerate(layers):
            if level in noise and layer in centres:
                axes.bar(
                    at + (place + 0.5) * width - 0.4,
                    2 * _NORMAL_95 * noise[level],
                    0.98 * width,
                    bottom=centres[layer] - _NORMAL_95 * noise[level],
                    color="0.85",
                    zorder=0.5,
                    label="_noise",
                )
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
