"""What aggregation did to the clients' updates. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.floating]]
"""Named weights of one model, float arrays of any shape."""


def flatten(arrays: Arrays) -> NDArray[np.float64]:
    """Return all weights as one float64 vector, in name order."""
    return np.concatenate([np.ravel(arrays[name]).astype(np.float64) for name in sorted(arrays)])


def update_norm(before: Arrays, after: Arrays) -> float:
    """Return ‖after − before‖₂ over all weights.

    Examples:
        >>> update_norm({"w": np.zeros(2)}, {"w": np.array([3.0, 4.0])})
        5.0
    """
    return float(np.linalg.norm(flatten(after) - flatten(before)))


def attenuation(private: NDArray[np.float64], shadow: NDArray[np.float64]) -> float | None:
    """Return ‖Δ_DP‖ / ‖Δ_shadow‖ of two updates [P]; None if the shadow did not move.

    Examples:
        >>> attenuation(np.array([0.6, 0.8]), np.array([0.0, 2.0]))
        0.5
    """
    shadow_norm = float(np.linalg.norm(shadow))
    return float(np.linalg.norm(private)) / shadow_norm if shadow_norm > 0 else None


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Return the cosine of the angle between two updates [P], in [-1, 1]; None if one did not move.

    Examples:
        >>> cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
        0.0
    """
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    # rounding carries the quotient of parallel updates past 1
    return min(1.0, max(-1.0, float(a @ b) / norms)) if norms > 0 else None


def effective_clients(weights: NDArray[np.float64]) -> float:
    """Return 1 / Σ w² of the normalised weights [m]: m for equal ones, 1 if one client has it all.

    Examples:
        >>> effective_clients(np.array([1.0, 1.0, 1.0, 1.0]))
        4.0
    """
    normalised = weights / weights.sum()
    return float(1.0 / np.sum(normalised**2))


def weight_entropy(weights: NDArray[np.float64]) -> float:
    """Return −Σ w ln w of the normalised weights [m], in nats: ln m for equal ones.

    Examples:
        >>> round(weight_entropy(np.array([1.0, 1.0])), 3)
        0.693
    """
    normalised = weights / weights.sum()
    positive = normalised[normalised > 0]
    return float(-np.sum(positive * np.log(positive)))
