"""What went wrong in a round, as rows of the run's tables. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from server.coordination import RoundOutcome
from server.measurement import Row
from server.rejections import FaultKind, Rejection
from server.spending import Spending

_COST_NOTHING = (FaultKind.REFUSED, FaultKind.STRANGER, FaultKind.DUPLICATE, FaultKind.LATE)
"""Who refuses has not trained; the others' own answer is booked by itself."""


def taken_values(outcome: RoundOutcome, rejections: Sequence[Rejection]) -> Row:
    """Return the columns of a round about which answers were taken."""
    return {
        "answered": len(outcome.reports),
        "rejected": len(rejections),
        "selected": len(outcome.decision.selected),
    }


def fault_rows_of(
    server_round: int, rejections: Sequence[Rejection], spending: Spending
) -> list[Row]:
    """Book what the rejected may have spent, and return a row for each of them."""
    rows: list[Row] = []
    for rejection in rejections:
        epsilon = None
        if rejection.partition is not None and rejection.kind not in _COST_NOTHING:
            epsilon = spending.lost(server_round, rejection.partition)
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
