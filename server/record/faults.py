"""What went wrong in a round, as rows of the run's tables. No I/O."""

from __future__ import annotations

from collections.abc import Container, Sequence

from server.coordination import RoundOutcome
from server.record.rows import Row
from server.replies.rejections import FaultKind, Rejection
from server.spending import Spending

_COST_NOTHING = (FaultKind.REFUSED, FaultKind.STRANGER, FaultKind.DUPLICATE, FaultKind.LATE)
"""Who refuses has not trained; the others come beside an answer, or beside a row that says none."""


def taken_values(outcome: RoundOutcome, rejections: Sequence[Rejection]) -> Row:
    """Return the columns of a round about which answers were taken."""
    return {
        "answered": len(outcome.reports),
        "rejected": len(rejections),
        "selected": len(outcome.decision.selected),
    }


def fault_rows_of(
    server_round: int,
    rejections: Sequence[Rejection],
    spending: Spending,
    reported: Container[int],
) -> list[Row]:
    """Book what the rejected may have spent, and return a row for each of them.

    Whose report was taken has said what it spent: nothing is assumed of it when something else
    that it sent, the weights it was asked for in a second phase, was not to be taken.

    Args:
        server_round: the round.
        rejections: what was wrong in it.
        spending: what the server knows of the clients' budgets, changed in place.
        reported: partitions whose reports were taken.
    """
    rows: list[Row] = []
    for rejection in rejections:
        partition, epsilon = rejection.partition, None
        known = partition is None or partition in reported or rejection.kind in _COST_NOTHING
        if partition is not None and not known:
            epsilon = spending.lost(server_round, partition)
        rows.append(
            {
                "round": server_round,
                "partition": rejection.partition,
                "kind": rejection.kind.value,
                "reason": rejection.reason,
                "epsilon_assumed": epsilon,
            }
        )
    return rows
