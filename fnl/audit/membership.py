"""How well scores tell members from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, mannwhitneyu


def auc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the probability that a member scores above another clip, ties half; nan if none."""
    if not len(members) or not len(others):
        return float("nan")
    below = mannwhitneyu(members, others, method="asymptotic").statistic
    return float(below / (len(members) * len(others)))


def true_positive_rate(
    members: NDArray[np.float64], others: NDArray[np.float64], false_positive_rate: float
) -> float:
    """Return the share of members above the threshold that at most this share of others exceeds.

    nan without members or others.
    """
    if not len(members) or not len(others):
        return float("nan")
    allowed = int(false_positive_rate * len(others))
    threshold = np.sort(others)[len(others) - 1 - allowed]
    return float(np.mean(members > threshold))


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return the exact two-sided interval of a binomial proportion (Clopper & Pearson 1934).

    Raises:
        ValueError: if not 0 <= successes <= trials with at least one trial.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials have no interval")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def epsilon_of_rates(
    true_positives: tuple[int, int],
    false_positives: tuple[int, int],
    *,
    delta: float,
    confidence: float,
) -> float:
    """Return the ε that the rates of a test refute, at least 0.

    (ε, δ)-DP bounds every test by TPR <= e^ε FPR + δ and, with in and out exchanged,
    1 - FPR <= e^ε (1 - TPR) + δ (Kairouz, Oh & Viswanath 2015, arXiv 1311.0776). Each rate is
    taken at the end of its Clopper-Pearson interval that favours the mechanism; both ends hold
    together at `confidence`.

    Args:
        true_positives: members called members, and all members.
        false_positives: others called members, and all others.
        delta: δ of the claim.
        confidence: of the bound, if the trials are independent.
    """
    # of each interval one end is used, which fails half as often as the interval
    low_true, _ = clopper_pearson(*true_positives, confidence)
    _, high_false = clopper_pearson(*false_positives, confidence)
    tests = ((low_true - delta, high_false), (1 - high_false - delta, 1 - low_true))
    proofs = [float(np.log(top / bottom)) for top, bottom in tests if top > bottom > 0]
    return max(proofs, default=0.0)
