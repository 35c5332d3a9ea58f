"""How much two rankings of the same candidates agree. Pure functions.

Rankings are given as scores over one and the same candidate set, in partition order; higher is
better, ties go to the earlier candidate.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def order(scores: Scores) -> NDArray[np.int64]:
    """Return candidate positions from best to worst: int64 [d].

    Examples:
        >>> order(np.array([0.2, 0.9, 0.5])).tolist()
        [1, 2, 0]
    """
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def ranks(scores: Scores) -> NDArray[np.int64]:
    """Return each candidate's rank, 1 the best: int64 [d].

    Examples:
        >>> ranks(np.array([0.2, 0.9, 0.5])).tolist()
        [3, 1, 2]
    """
    return np.argsort(order(scores)) + 1  # the inverse of a permutation


def kendall_tau(a: Scores, b: Scores) -> float | None:
    """Return Kendall's τ-b in [-1, 1]; None where it is undefined (one candidate, all tied).

    SciPy's, of two lists of scores [d] of the same candidates.

    Examples:
        >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
        -1.0
    """
    return _correlation(scipy.stats.kendalltau, a, b)


def spearman_rho(a: Scores, b: Scores) -> float | None:
    """Return Spearman's ρ in [-1, 1]; None where it is undefined (one candidate, all tied).

    SciPy's, of two lists of scores [d] of the same candidates.

    Examples:
        >>> spearman_rho(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
        1.0
    """
    return _correlation(scipy.stats.spearmanr, a, b)


def _correlation(statistic: object, a: Scores, b: Scores) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    value = float(statistic(a, b).statistic)  # type: ignore[operator]  # SciPy's are untyped
    return value if np.isfinite(value) else None


def jaccard(a: Scores, b: Scores, top: int) -> float:
    """Return |A ∩ B| / |A ∪ B| of the `top` best by `a` and by `b`, in [0, 1].

    Examples:
        >>> round(jaccard(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]), top=2), 3)
        0.333
    """
    best_a, best_b = set(order(a)[:top].tolist()), set(order(b)[:top].tolist())
    return len(best_a & best_b) / len(best_a | best_b)


def flip_rate(a: Scores, b: Scores, top: int) -> float:
    """Return the share of the `top` best by `a` that are not among the `top` best by `b`.

    Examples:
        >>> flip_rate(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]), top=2)
        0.5
    """
    best_a, best_b = set(order(a)[:top].tolist()), set(order(b)[:top].tolist())
    return len(best_a - best_b) / len(best_a)


def rank_biased_overlap(a: Scores, b: Scores, persistence: float = 0.9) -> float:
    """Return the extrapolated rank-biased overlap of two full rankings, in [0, 1].

    RBO_EXT of Webber, Moffat & Zobel (2010), equation 32 for lists of equal length k without ties:
    A_k·p^k + (1-p)/p · Σ_{i=1..k} A_i·p^i, A_i = overlap of the first i, over i.

    Args:
        a: scores of the candidates, [d].
        b: scores of the same candidates, [d].
        persistence: p in (0, 1), the weight of depth; 0.9 puts 86 % of it on the first ten.

    Examples:
        >>> round(rank_biased_overlap(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])), 3)
        0.955
    """
    order_a, order_b = order(a).tolist(), order(b).tolist()
    seen_a: set[int] = set()
    seen_b: set[int] = set()
    weighted, agreement = 0.0, 0.0
    for depth, (item_a, item_b) in enumerate(zip(order_a, order_b, strict=True), start=1):
        seen_a.add(item_a)
        seen_b.add(item_b)
        agreement = len(seen_a & seen_b) / depth
        weighted += agreement * persistence**depth
    return agreement * persistence ** len(order_a) + (1 - persistence) / persistence * weighted


def margin(scores: Scores, top: int) -> float | None:
    """Return the score of rank `top` minus that of the next; None if there is no next.

    How much a score may move before the selection of the `top` best changes: 0 is a tie.

    Examples:
        >>> margin(np.array([0.25, 0.75, 0.5]), top=1)
        0.25
    """
    if top >= len(scores):
        return None
    best = np.asarray(scores, dtype=np.float64)[order(scores)]
    return float(best[top - 1] - best[top])
