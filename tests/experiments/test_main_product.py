"""Cells around a grid's product are told apart from it, in titles and in means."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from drawn import heading, panel, titles

from experiments.figures.accuracy_epsilon import accuracy_against_epsilon
from experiments.figures.heat_maps import heat_maps
from experiments.figures.settings import main_product

EPSILON, BOUND, RULE = "privacy.epsilon", "privacy.clip-norm", "coordination.selection"


@pytest.fixture
def summary() -> pl.DataFrame:
    """2 ε by 2 C under one rule, and one setting more under another, far from the rest."""
    settings = [
        (e, c, "rate-difference", 0.5 + e / 100) for e, c in product((1.0, 8.0), (1.0, 5.0))
    ]
    settings.append((8.0, 5.0, "random", 100.0))
    rows = [
        {EPSILON: e, BOUND: c, RULE: rule, "metric": metric, "mean": mean, "difference": mean}
        for e, c, rule, mean in settings
        for metric in ("accuracy", "attenuation")
    ]
    return pl.DataFrame(rows).with_columns(
        is_twin=pl.lit(value=False), n=pl.lit(3), low=pl.col("mean"), high=pl.col("mean")
    )


def test_it_is_where_most_settings_are_and_nowhere_where_all_have_as_many(summary):
    assert main_product(summary, [RULE]) == {RULE: "rate-difference"}
    assert main_product(summary.filter(pl.col(RULE) == "rate-difference"), [RULE]) is None
    assert main_product(summary, []) is None


def test_heat_maps_do_not_mix_it_with_other_cells(summary):
    figure = heat_maps(summary).draw()
    shown = np.asarray(panel(figure, "attenuation").collections[0].get_array()).reshape(2, 2)
    np.testing.assert_allclose(shown, [[0.51, 0.58], [0.51, 0.58]])
    assert "Only cells of selection = rate-difference." in heading(figure)


def test_panels_are_titled_by_what_differs_from_it(summary):
    figure = accuracy_against_epsilon(summary).draw()
    assert titles(figure) == ["The grid's product", "selection = random"]
    assert "says nothing else: selection = rate-difference" in heading(figure)
