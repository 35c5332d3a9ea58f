"""Intervals of the numbers that a report states."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.grid.statistics import t_interval


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def show(self, form: str = ".3f", *, scale: float = 1.0, unit: str = "") -> str:
        """Return e.g. "0.231 (95 % interval 0.190 to 0.275)"."""
        value, low, high = (number(x * scale, form) for x in (self.value, self.low, self.high))
        return f"{value}{unit} (95 % interval {low} to {high}{unit})"


def number(value: float, form: str = ".3f") -> str:
    """Return a number as text with a minus sign, and never a negative zero."""
    text = f"{value:{form}}"
    if text.lstrip("+-").strip("0.") == "":
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def wilson(successes: float, trials: int) -> Estimate:
    """Return a share and Wilson's score interval (Wilson 1927).

    Raises:
        ValueError: if there are no trials.
    """
    if trials < 1:
        raise ValueError("a share of no trials has no interval")
    interval = stats.binomtest(round(successes), trials).proportion_ci(0.95, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def mean_over_rounds(values: NDArray[np.float64], rounds: NDArray[np.int64]) -> Estimate | None:
    """Return the mean over rounds of `values` [n], in `rounds` [n], and an interval by batch means.

    Values within a round share a global model, so a round counts once; a round resembles the one
    before, so √R batches of consecutive rounds are taken as independent, not rounds themselves
    (Law, "Simulation Modeling and Analysis", 2015, section 9.5.3). It is of this run: of no other
    seed.

    Returns:
        None if there are fewer than four rounds, which make two batches.
    """
    names, index = np.unique(rounds, return_inverse=True)
    if len(names) < 4:
        return None
    means = np.bincount(index, weights=values) / np.bincount(index)
    batches = np.array_split(means, math.isqrt(len(means)))
    _, half = t_interval(np.array([batch.mean() for batch in batches]))
    mean = float(means.mean())
    return Estimate(mean, mean - half, mean + half)


def probability(value: float | None) -> str:
    """Return a p-value as text."""
    if value is None or math.isnan(value):
        return "no p-value"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
