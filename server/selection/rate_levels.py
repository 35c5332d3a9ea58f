"""By a client's firing rate after training, on its own clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.selection.interface import Scores, SelectionRule

_NEVER = 1e-300
"""In place of a rate of 0: behind every client that fires, and the score stays finite."""


def _rates(reports: Sequence[ClientReport]) -> Scores:
    return np.array([report.firing_rate_after for report in reports], dtype=np.float64)


def highest_rate(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by the rate: the most active clients."""
    return _rates(reports)


def lowest_rate(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by minus the rate: the sparsest clients."""
    return -_rates(reports)


def target_rate(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by minus the distance from the band around `coordination.target-rate`.

    −max(0, |r − target| − band): within `coordination.rate-band` all are equal.
    """
    settings = context.settings
    distance = np.abs(_rates(reports) - settings.target_rate)
    return -np.maximum(0.0, distance - settings.rate_band)


def rate_proportional(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Draw without replacement, each time with probability ∝ the rate of those left.

    The m smallest of independent exponential times E_k / r_k are such a sample; the score is minus
    the time (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir", whose keys
    u^(1/r) order the same way but underflow for small rates).
    """
    times = context.stream.exponential(size=len(reports))
    return -times / np.maximum(_rates(reports), _NEVER)


RULES: dict[str, SelectionRule] = {
    "highest-rate": highest_rate,
    "lowest-rate": lowest_rate,
    "target-rate": target_rate,
    "rate-proportional": rate_proportional,
}
