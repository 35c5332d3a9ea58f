"""Aggregation rules: each gives every selected client its share of the average.

A rule is a function of the selected clients' reports. To add one, write such a function and put
it into `AGGREGATION_RULES`; weights need not sum to one, they are normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.exchange import ClientReport

AggregationRule = Callable[[Sequence[ClientReport]], NDArray[np.float64]]


def fedavg(reports: Sequence[ClientReport]) -> NDArray[np.float64]:
    """Weigh by the number of clips: w_k ∝ n_k (McMahan et al. 2017, arXiv 1602.05629)."""
    return np.array([report.num_examples for report in reports], dtype=np.float64)


def rate_weighted(reports: Sequence[ClientReport]) -> NDArray[np.float64]:
    """Weigh by clips and firing rate: w_k ∝ n_k r_k, r_k after training on the client's clips."""
    return np.array([report.num_examples * report.firing_rate_after for report in reports])


AGGREGATION_RULES: dict[str, AggregationRule] = {"fedavg": fedavg, "rate-weighted": rate_weighted}


def normalised_weights(
    reports: Sequence[ClientReport], rule: AggregationRule
) -> NDArray[np.float64]:
    """Return the rule's weights, normalised to sum to one: float64 [m].

    Raises:
        RunError: if a weight is negative or not finite, or all are zero.
    """
    weights = np.asarray(rule(reports), dtype=np.float64)
    if weights.shape != (len(reports),):
        raise RunError(
            f"the aggregation rule returned weights of shape {weights.shape} for {len(reports)} "
            "clients: it must return one weight a client"
        )
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise RunError(
            f"the aggregation rule gave partition {reports[int(bad[0])].partition} the weight "
            f"{weights[bad[0]]}: weights must be finite and not negative"
        )
    if weights.sum() == 0:
        raise RunError(
            "the aggregation rule gave every selected client the weight 0 (are all networks "
            "silent?): lower model.threshold or use coordination.aggregation = 'fedavg'"
        )
    return weights / weights.sum()
