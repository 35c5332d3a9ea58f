"""From what a selection rule returns to who is selected, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.metrics.ranking import order
from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.declaration import numbers_of

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """Whom a rule selects, with a score for every candidate.

    Attributes:
        scores: float64 [d], for the tables.
        selected: positions of the selected candidates, best first, int64 [m].
    """

    scores: Scores
    selected: NDArray[np.int64]


SelectionRule = Callable[[Sequence[ClientReport], RoundContext], Scores | Selection]


def select(
    reports: Sequence[ClientReport], rule: SelectionRule, context: RoundContext, *, name: str
) -> Selection:
    """Return all scores and the positions of the `context.count` selected, best first.

    `reports` come in partition order, so a tie of scores falls to the lower partition.

    Args:
        reports: the candidates'.
        rule: the selection rule.
        context: the round.
        name: of the rule, for messages.

    Raises:
        RunError: if the rule returns another number of scores or one that is not finite, or
            selects another number of candidates, one twice, or one that is none.
    """
    returned = rule(reports, context)
    if not isinstance(returned, Selection):
        scores = _checked_scores(returned, reports, name)
        return Selection(scores, order(scores)[: context.count])
    scores = _checked_scores(returned.scores, reports, name)
    return Selection(scores, _checked_choice(returned.selected, reports, context.count, name))


def _checked_scores(returned: object, reports: Sequence[ClientReport], name: str) -> Scores:
    scores = numbers_of(
        returned, len(reports), f"the selection rule {name!r}", "score", "candidate"
    )
    if not np.isfinite(scores).all():
        worst = reports[int(np.flatnonzero(~np.isfinite(scores))[0])].partition
        raise RunError(
            f"the selection rule {name!r} gave partition {worst} a score that is not finite"
        )
    return scores


def _checked_choice(
    returned: object, reports: Sequence[ClientReport], count: int, name: str
) -> NDArray[np.int64]:
    selected = np.asarray(returned)
    if selected.shape != (count,) or not np.issubdtype(selected.dtype, np.integer):
        raise RunError(
            f"the selection rule {name!r} selected {selected.dtype} of shape {selected.shape}: it "
            f"must select coordination.selected = {count} candidates by their position"
        )
    outside = selected[(selected < 0) | (selected >= len(reports))]
    if outside.size:
        raise RunError(
            f"the selection rule {name!r} selected position {outside[0]}: there are positions 0 "
            f"to {len(reports) - 1}"
        )
    positions, times = np.unique(selected, return_counts=True)
    if (times > 1).any():
        twice = reports[int(positions[times > 1][0])].partition
        raise RunError(f"the selection rule {name!r} selected partition {twice} more than once")
    return selected.astype(np.int64)
