"""Who counts in a round, and with what share, where it must not matter who answers."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fnl.wire.report import ClientReport, Rates
from server.coordination import Coordination
from server.replies.vetting import Answer
from server.shared_noise import expected_batch


def known_beforehand(partition: int, clips: int) -> ClientReport:
    """Return what is known of a client without it: all that rules may read at client level."""
    unknown = Rates(math.nan, [], [])
    return ClientReport(
        partition=partition,
        num_examples=clips,
        before=unknown,
        after=unknown,
        steps=0,
        sample_rate=0.0,
        seconds=math.nan,
        update_norm=math.nan,
    )


def in_the_sum(decision: Coordination, answers: Sequence[Answer]) -> Coordination:
    """Return `decision` with the shares that clients have in a sum of their updates."""
    batches = np.array([expected_batch(answers[k]) for k in decision.selected])
    return replace(decision, weights=batches / batches.sum())


def as_expected(decision: Coordination, shares: NDArray[np.float64]) -> Coordination:
    """Return `decision` with the share that each candidate has whoever else is one, float64 [d].

    The global model keeps the rest, which is less than nothing where more came than expected.
    """
    weights = shares[decision.selected]
    return replace(decision, weights=weights, kept=1.0 - float(weights.sum()))


def among(
    decision: Coordination,
    candidates: Sequence[ClientReport],
    reports: Sequence[ClientReport],
    there: Container[int],
) -> Coordination:
    """Return `decision` over those of the candidates that have reported, for the tables.

    Of the selected it keeps those who are `there`, with the weight that they have.
    """
    if candidates is reports:
        return decision
    place = {report.partition: position for position, report in enumerate(reports)}
    kept = [candidates[k].partition in there for k in decision.selected]
    return replace(
        decision,
        scores=np.array(
            [decision.scores[k] for k, c in enumerate(candidates) if c.partition in place]
        ),
        selected=np.array(
            [place[candidates[k].partition] for k in decision.selected[kept]], dtype=np.int64
        ),
        weights=None if decision.weights is None else decision.weights[kept],
    )
