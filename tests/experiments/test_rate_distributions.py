"""Rates that left with noise are not shown as if privacy had moved the network's own."""

from __future__ import annotations

import numpy as np
import polars as pl
from drawn import heading
from matplotlib.container import BarContainer

from experiments.figures.rate_distributions import rate_distributions
from experiments.figures.settings import WITHOUT_DP

NOISE = {"ε = 2": 0.05, "ε = 8": 0.01}


def rates(*, released: bool) -> pl.DataFrame:
    """The same frozen layer at every level; what differs is the noise of the release alone."""
    draw = np.random.default_rng(0)
    levels = [*NOISE.items(), (WITHOUT_DP, None)]
    rows = [
        {
            "layer": 0,
            "level": level,
            "level_order": float(order),
            "rate_noise": sd if released else None,
            "firing_rate": 0.17 + (draw.normal(0, sd) if sd and released else 0.0),
        }
        for order, (level, sd) in enumerate(levels)
        for _ in range(5)
    ]
    return pl.DataFrame(rows, schema_overrides={"rate_noise": pl.Float64})


def test_released_rates_have_the_range_of_their_noise_and_say_so() -> None:
    figure = rate_distributions(rates(released=True), of="Last round.").draw()
    (axes,) = figure.axes
    drawn = [bar for bars in axes.containers if isinstance(bars, BarContainer) for bar in bars]
    ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in drawn]
    np.testing.assert_allclose(
        ends, [(0.17 - 1.96 * sd, 0.17 + 1.96 * sd) for sd in NOISE.values()], atol=1e-4
    )
    said = heading(figure)
    assert "as released under DP" in said
    assert "sd 0.05 at ε = 2, 0.01 at ε = 8" in said
    assert "not an effect of DP" in said


def test_rates_in_the_clear_have_no_noise_to_show() -> None:
    figure = rate_distributions(rates(released=False), of="Last round.").draw()
    assert not figure.axes[0].containers
    assert "released" not in heading(figure)
