"""Fairness of participation: how evenly clients are selected. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def gini(counts: ArrayLike) -> float | None:
    """Return the Gini coefficient of how often each client was selected, in [0, 1 − 1/N].

    Half the mean absolute difference of two clients, over the mean (Gini 1912):
    Σ_i Σ_j |x_i − x_j| / (2 N² x̄), here by sorting. 0: all alike. 1 − 1/N: one client has it all.

    Args:
        counts: selections of each client of the federation, those never asked included, [N].

    Returns:
        None if nobody was ever selected.

    Raises:
        ValueError: if a count is negative.

    Examples:
        >>> gini([4, 0, 0, 0])
        0.75
    """
    values = np.sort(np.asarray(counts, dtype=np.float64))
    if values.size and values[0] < 0:
        raise ValueError(f"a client cannot have been selected {values[0]} times")
    total = values.sum()
    if total == 0:
        return None
    positions = np.arange(1, len(values) + 1)
    return float((2 * positions - len(values) - 1) @ values / (len(values) * total))


def share_selected(counts: ArrayLike) -> float:
    """Return the share of clients that were selected at least once, in [0, 1].

    Args:
        counts: selections of each client, [N].

    Examples:
        >>> share_selected([2, 0, 1, 0])
        0.5
    """
    return float(np.mean(np.asarray(counts) > 0))
