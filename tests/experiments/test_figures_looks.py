"""Series stay apart in grey and for colour-blind readers: lightness, lines, markers, hatching."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from experiments.figures.looks import HATCHES, MOST_SERIES, SEQUENTIAL, graded_looks, spread

FULL = np.eye(3)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
"""Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB."""
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
TRITANOPIA = np.array(
    [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ]
)
SIGHTS = {
    "full": FULL,
    "deuteranopia": DEUTERANOPIA,
    "protanopia": PROTANOPIA,
    "tritanopia": TRITANOPIA,
}


def linear(colour: object) -> np.ndarray:
    rgb = np.asarray(to_rgb(colour))  # type: ignore[arg-type]
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lightness(colour: object, sight: np.ndarray = FULL) -> float:
    """CIE L* of a colour, 0 black to 100 white, as seen with `sight`."""
    luminance = float(np.clip(sight @ linear(colour), 0, 1) @ [0.2126, 0.7152, 0.0722])
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def test_lightness_is_that_of_the_standard() -> None:
    assert lightness("white") == pytest.approx(100, abs=1e-3)
    assert lightness("black") == 0
    assert lightness("#777777") == pytest.approx(50.03, abs=0.05)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("count", range(2, MOST_SERIES + 1))
def test_series_get_lighter_step_by_step_for_every_eye(count: int, sight: str) -> None:
    steps = np.diff([lightness(look.colour, SIGHTS[sight]) for look in graded_looks(count)])
    assert (steps > 9).all(), steps
    assert lightness(graded_looks(count)[-1].colour) < 85  # still visible on white


@pytest.mark.parametrize("sight", SIGHTS)
def test_heat_maps_only_get_lighter(sight: str) -> None:
    shades = colormaps[SEQUENTIAL](np.linspace(0, 1, 32))[:, :3]
    assert (np.diff([lightness(tuple(shade), SIGHTS[sight]) for shade in shades]) > 0).all()


def test_series_differ_without_any_colour() -> None:
    looks = graded_looks(MOST_SERIES)
    assert len({look.line for look in looks}) == MOST_SERIES
    assert len({look.marker for look in looks}) == MOST_SERIES
    assert len(set(HATCHES)) == len(HATCHES) >= MOST_SERIES


def test_more_series_than_can_be_told_apart_are_refused_and_thinned() -> None:
    with pytest.raises(ValueError, match="cannot be told apart"):
        graded_looks(MOST_SERIES + 1)
    levels = [str(number) for number in range(20)]
    thinned = spread(levels)
    assert len(thinned) == MOST_SERIES
    assert (thinned[0], thinned[-1]) == ("0", "19")
    assert spread(levels[:3]) == levels[:3]
