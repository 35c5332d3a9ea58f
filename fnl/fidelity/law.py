"""What a correlation of two scores says of their rankings: the law for Gaussian scores.

Clean scores of d candidates and their noisy versions are taken as d independent draws of a
bivariate normal with correlation ρ. Kendall's τ is then (2/π) arcsin ρ (Sheppard 1899; Kruskal
1958, "Ordinal measures of association"), and how the selections of the m best agree follows from ρ,
d and m alone.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, owens_t
from scipy.stats import binom

from fnl.fidelity.moments import Floats, normal_nodes

_NODES, _REACH = 72, 6.5
"""Of a quadrature over a normal variable: by the rule of trapezia, as the integrand is smooth (on
the scale of 1/√d) and vanishes at both ends."""


def correlation_of_tau(tau: float) -> float:
    """Return the correlation of Gaussian scores with that Kendall's τ.

    Examples:
        >>> round(correlation_of_tau(1 / 3), 4)
        0.5
    """
    return float(np.sin(np.pi / 2 * tau))


def flip_rate(correlation: float, candidates: int, selected: int) -> float:
    """Return the expected share of the m best of d that are not among the m best in noise.

    Exact for Gaussian scores: a candidate with scores (x, y) is in both selections if fewer than m
    of the d − 1 others are above x, and fewer than m above y; that is counted over the quadrants
    the others fall in, and integrated over (x, y).

    Args:
        correlation: ρ of the scores, in [-1, 1].
        candidates: d.
        selected: m.

    Examples:
        >>> round(flip_rate(0.0, 20, 5), 4)
        0.75
    """
    if selected >= candidates or correlation >= 1:
        return 0.0
    # of two selections of m, those not selected overlap in d − 2m more: the fewer are counted
    top = min(selected, candidates - selected)
    overlap = candidates * _in_both(max(correlation, -1 + 1e-12), candidates - 1, top)
    return float(np.clip((top - overlap) / selected, 0.0, 1.0))


def jaccard(flips: float) -> float:
    """Return |A ∩ B| / |A ∪ B| of two selections of one size at that flip rate.

    Examples:
        >>> round(jaccard(0.5), 4)
        0.3333
    """
    return (1 - flips) / (1 + flips)


def selection_gain(candidates: int, selected: int) -> float:
    """Return the mean of the m largest of d standard normal scores.

    By that many standard deviations selecting by a clean score is better in it than at random;
    by a score that correlates with it at ρ, ρ times as much.

    Examples:
        >>> round(selection_gain(2, 1), 4)  # 1/√π
        0.5642
    """
    z, weights = normal_nodes(8 * _NODES, _REACH)
    chosen = binom.cdf(selected - 1, candidates - 1, ndtr(-z))
    return float(candidates / selected * np.sum(weights * z * chosen))


def _in_both(correlation: float, others: int, top: int) -> float:
    """Return how probable it is that one candidate is among the `top` of both rankings."""
    nodes, weights = normal_nodes(_NODES, _REACH)
    x = np.repeat(nodes, _NODES)
    z = np.tile(nodes, _NODES)
    y = correlation * x + np.sqrt(1 - correlation**2) * z
    both = _above(x, y, correlation)
    only_x, only_y = ndtr(-x) - both, ndtr(-y) - both
    neither = 1 - both - only_x - only_y
    # counts[a, b]: probability that a others are above x and b above y, of those seen so far
    counts = np.zeros((top, top, len(x)))
    counts[0, 0] = 1.0
    for _ in range(others):
        more = neither * counts
        more[1:] += only_x * counts[:-1]
        more[:, 1:] += only_y * counts[:, :-1]
        more[1:, 1:] += both * counts[:-1, :-1]
        counts = more
    return float(np.outer(weights, weights).ravel() @ counts.sum(axis=(0, 1)))


def _above(x: Floats, y: Floats, correlation: float) -> Floats:
    """Return P(X > x, Y > y) of a standard bivariate normal (Owen 1956)."""
    h, k, root = 0.0 - x, 0.0 - y, np.sqrt(1 - correlation**2)  # no −0, whose quotients flip sign
    with np.errstate(divide="ignore", invalid="ignore"):
        from_h = (np.where(h == k, 1.0, k / h) - correlation) / root
        from_k = (np.where(h == k, 1.0, h / k) - correlation) / root
    apart = np.where((h * k > 0) | ((h * k == 0) & (h + k >= 0)), 0.0, 0.5)
    joint = (ndtr(h) + ndtr(k)) / 2 - owens_t(h, from_h) - owens_t(k, from_k) - apart
    return np.clip(joint, 0.0, np.minimum(ndtr(h), ndtr(k)))
