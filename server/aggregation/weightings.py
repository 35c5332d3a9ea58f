"""Normalised averages: w_k / Σ_j w_j of every selected model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.wire.report import ClientReport
from server.aggregation.interface import AggregationRule
from server.context import RoundContext


def fedavg(reports: Sequence[ClientReport], _context: RoundContext) -> NDArray[np.float64]:
    """Weigh by the number of clips: w_k ∝ n_k (McMahan et al. 2017, arXiv 1602.05629)."""
    return np.array([report.num_examples for report in reports], dtype=np.float64)


def rate_weighted(reports: Sequence[ClientReport], _context: RoundContext) -> NDArray[np.float64]:
    """Weigh by clips and firing rate: w_k ∝ n_k r_k, r_k after training on the client's clips."""
    return np.array([report.num_examples * report.firing_rate_after for report in reports])


def inverse_rate(reports: Sequence[ClientReport], context: RoundContext) -> NDArray[np.float64]:
    """Weigh sparse clients up: w_k ∝ n_k / (r_k + ε), ε = `coordination.rate-offset`."""
    offset = context.settings.rate_offset
    return np.array(
        [report.num_examples / (report.firing_rate_after + offset) for report in reports]
    )


RULES: dict[str, AggregationRule] = {
    "fedavg": fedavg,
    "rate-weighted": rate_weighted,
    "inverse-rate": inverse_rate,
}
