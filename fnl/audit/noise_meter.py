"""How much noise was added, measured: what is left of an update without all that is known.

A full batch and one step of SGD a round leave nothing else in an update: it is the sum of clipped
gradients, which the auditor can compute, and the noise. Tens of thousands of numbers tell its
standard deviation to a per cent, where guesses of coins tell an order of magnitude. Whatever else
is in an update makes it longer: noise that is measured to be too small is too small.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from fnl.training.plan import TrainingPlan

SIGNIFICANCE = 1e-6
"""Probability that the noise measured of a right mechanism is called too small."""


class NoiseMeter:
    """Collects updates; `most` then bounds the noise in them."""

    def __init__(self) -> None:
        self._squares = 0.0
        self._numbers = 0

    @staticmethod
    def reads(plan: TrainingPlan) -> bool:
        """Return whether an update of `plan` is one step of the sum and the noise alone."""
        plain = plan.options.optimizer == "sgd" and not plan.options.weight_decay
        return plain and plan.steps == 1 and plan.sample_rate == 1

    def add(self, noise: NDArray[np.float64], booked: float) -> None:
        """Take in the noise of one update, [D], whose booked standard deviation is `booked`."""
        self._squares += float(np.square(noise / booked).sum())
        self._numbers += len(noise)

    def most(self) -> float:
        """Return the most noise that is plausible, in parts of what was booked; nan of nothing."""
        if not self._numbers:
            return math.nan
        return math.sqrt(self._squares / float(chi2.ppf(SIGNIFICANCE, self._numbers)))
