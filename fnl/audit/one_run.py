"""A lower bound on ε from one run: guess which canaries were in, and count the hits.

m canaries are each put into the data or left out by a fair coin of its own. From what the
mechanism released, the auditor guesses the coins of r of them and abstains from the others. Under
(ε, δ)-DP of one record (add or remove) the hits are few: Steinke, Nasr & Jagielski 2023, "Privacy
Auditing with One (1) Training Run" (arXiv 2305.08846), Theorem 5.2. More hits than it allows
refute (ε, δ)-DP; the largest ε that is refuted is the bound.

The theorem asks that coins be independent and fair and that guesses come from the release alone.
It asks nothing of the attack: a poor one gives a poor bound, never a wrong one. Clients that hold
different canaries may be pooled, because their joint release is (ε, δ)-DP when each one's is
(parallel composition).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

GUESSED_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the canaries that are guessed; fixed before the release is seen."""

_PRECISION = 1e-4


@dataclass(frozen=True)
class Bound:
    """What guesses prove: the names are those of the columns of an audit.

    Attributes:
        lower_bound: the release is not (ε, δ)-DP for any ε below it; 0 where nothing is proved.
        confidence: probability with which the bound holds, over coins and mechanism.
        canaries: m.
        guesses: r of the share that gave the bound.
        correct: hits among them.
    """

    lower_bound: float
    confidence: float
    canaries: int
    guesses: int
    correct: int


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return a bound on the probability of `correct` or more hits under (ε, δ)-DP.

    With X ~ Binomial(r, e^ε/(1 + e^ε)) it is P[X ≥ v] + 2mδ·max_{1≤i≤v} P[v - i ≤ X < v]/i
    (Theorem 5.2, in the form of the authors' code in Appendix D), at most 1. At δ = 0 it is
    the tail of the binomial.

    Raises:
        ValueError: if not 0 <= correct <= guesses <= canaries, ε >= 0 and 0 <= δ <= 1.
    """
    if not (0 <= correct <= guesses <= canaries and epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(
            "a p-value takes 0 <= correct <= guesses <= canaries, epsilon >= 0 and "
            f"0 <= delta <= 1, got {correct}, {guesses}, {canaries}, {epsilon} and {delta}"
        )
    accuracy = float(expit(epsilon))
    tail = float(binom.sf(correct - 1, guesses, accuracy))
    if delta > 0 and correct > 0:
        # P[v - i ≤ X < v] for i = 1 … v
        below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
        worst = float(np.max(below / np.arange(1, correct + 1)))
        tail += 2 * canaries * delta * worst
    return min(tail, 1.0)


def lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """Return the largest ε refuted at `confidence`, found by bisection from below; 0 if none is.

    Refuting one ε refutes all smaller ones, so what is returned holds whatever the shape of the
    p-value; the search stops within 1e-4.
    """
    significance = 1 - confidence

    def refuted(epsilon: float) -> bool:
        p = p_value(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        return p <= significance

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def bound_from_scores(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float,
    shares: Sequence[float] = GUESSED_SHARES,
) -> Bound:
    """Return the best bound over `shares`, each paid for: K shares take (1 - confidence)/K each.

    Of a share, the half with the largest scores is guessed in, the half with the smallest out.

    Args:
        scores: float64 [m], larger for a canary that looks included.
        included: bool [m], the coins.
        delta: δ of the claim.
        confidence: of the bound that is returned.
        shares: shares of the canaries to guess.

    Raises:
        ValueError: if there are fewer than two canaries, or lengths differ.
    """
    canaries = len(scores)
    if canaries < 2 or included.shape != scores.shape:
        raise ValueError(
            f"a bound takes at least two canaries with a score and a coin each, got {scores.shape} "
            f"scores and {included.shape} coins"
        )
    order = np.argsort(-scores, kind="stable")
    corrected = 1 - (1 - confidence) / len(shares)
    best: Bound | None = None
    for share in shares:
        side = max(1, int(share * canaries) // 2)
        correct = int(included[order[:side]].sum() + (~included[order[-side:]]).sum())
        epsilon = lower_bound(
            canaries=canaries,
            guesses=2 * side,
            correct=correct,
            delta=delta,
            confidence=corrected,
        )
        if best is None or epsilon > best.lower_bound:
            best = Bound(epsilon, confidence, canaries, 2 * side, correct)
    if best is None:
        raise ValueError("a bound takes at least one share of canaries to guess")
    return best
