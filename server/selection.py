"""Selection rules: each gives every candidate a score, the largest scores are selected.

A rule is a function of the candidates' reports and of a random stream. To add one, write such a
function and put it into `SELECTION_RULES`:

    def highest_rate(reports: Sequence[ClientReport], stream: np.random.Generator) -> Scores:
        return np.array([report.firing_rate_after for report in reports])

    SELECTION_RULES["highest-rate"] = highest_rate
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.exchange import ClientReport
from fnl.metrics.ranking import order

Scores = NDArray[np.float64]
SelectionRule = Callable[[Sequence[ClientReport], np.random.Generator], Scores]


def random_scores(reports: Sequence[ClientReport], stream: np.random.Generator) -> Scores:
    """Score uniformly at random: the selected are a uniform sample of the candidates."""
    return stream.random(len(reports))


def rate_difference(reports: Sequence[ClientReport], stream: np.random.Generator) -> Scores:  # noqa: ARG001 a rule may be deterministic
    """Score by how much training moved a client's firing rates, class by class.

    SFedCA (arXiv 2406.12200): score_k = Σ_c |r_{k,c}(θ_k) − r_{k,c}(θ)| over the classes the client
    has, each client measured on its own clips with its own trained model.
    """
    scores = []
    for report in reports:
        before = np.array(report.class_rates_before)
        after = np.array(report.class_rates_after)
        scores.append(np.nansum(np.abs(after - before)))
    return np.array(scores, dtype=np.float64)


SELECTION_RULES: dict[str, SelectionRule] = {
    "random": random_scores,
    "rate-difference": rate_difference,
}


def select(
    reports: Sequence[ClientReport], rule: SelectionRule, count: int, stream: np.random.Generator
) -> tuple[Scores, NDArray[np.int64]]:
    """Return all scores and the positions of the `count` best, best first.

    `reports` come in partition order, so a tie falls to the lower partition.

    Raises:
        RunError: if the rule returns another number of scores or one that is not finite.
    """
    scores = np.asarray(rule(reports, stream), dtype=np.float64)
    if scores.shape != (len(reports),):
        raise RunError(
            f"the selection rule returned scores of shape {scores.shape} for {len(reports)} "
            "candidates: it must return one score a candidate"
        )
    if not np.isfinite(scores).all():
        worst = reports[int(np.flatnonzero(~np.isfinite(scores))[0])].partition
        raise RunError(f"the selection rule gave partition {worst} a score that is not finite")
    return scores, order(scores)[:count]
