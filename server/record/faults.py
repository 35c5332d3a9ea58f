"""What went wrong in a round, as rows of the run's tables. No I/O."""

from __future__ import annotations

from server.record.rows import Row
from server.rounds import GlobalRound


def answer_counts(played: GlobalRound) -> Row:
    """Return the columns of a round about which answers were taken."""
    return {
        "answered": len(played.reports),
        "rejected": len(played.rejections),
        "selected": len(played.decision.selected),
    }


def fault_rows(played: GlobalRound) -> list[Row]:
    """Return a row for everything that was wrong."""
    return [
        {
            "round": played.number,
            "partition": rejection.partition,
            "kind": rejection.kind.value,
            "reason": rejection.reason,
            "epsilon_assumed": epsilon,
        }
        for rejection, epsilon in zip(played.rejections, played.assumed, strict=True)
    ]
