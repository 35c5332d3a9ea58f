"""From what a selection rule returns to who is selected, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError, running
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
        memory: what to remember for later rounds, by name, float64 [N] each; a rule finds it in
            `context.history.memory`. None: nothing new.
        reliability: share of the scores' variance that is not noise; None where nobody knows.
        at_random: whether the selection is a random one, as noise hides the scores.
    """

    scores: Scores
    selected: NDArray[np.int64]
    memory: Mapping[str, NDArray[np.float64]] | None = None
    reliability: float | None = None
    at_random: bool = False


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
    with running(f"the selection rule {name!r} failed", raises=RunError):
        returned = rule(reports, context)
    if not isinstance(returned, Selection):
        scores = _checked_scores(returned, reports, name)
        return Selection(scores, order(scores)[: context.count])
    scores = _checked_scores(returned.scores, reports, name)
    selected = _checked_choice(returned.selected, reports, context.count, name)
    memory = _checked_memory(returned.memory, len(context.history.times_selected), name)
    return replace(returned, scores=scores, selected=selected, memory=memory)


def within_share(
    choice: Selection, reports: Sequence[ClientReport], context: RoundContext
) -> Selection:
    """Return `choice` with others in place of those that are selected too often.

    A client whose selections would exceed `coordination.max-share` of the rounds in which it
    answered stands behind all others; a client may always be selected once.
    """
    history, share = context.history, context.settings.max_share
    if share == 1:
        return choice
    partitions = [report.partition for report in reports]
    allowed = np.maximum(1.0, share * (history.times_answered[partitions] + 1))
    too_often = history.times_selected[partitions] + 1 > allowed
    best = order(choice.scores)
    in_turn = np.concatenate([choice.selected, best[~np.isin(best, choice.selected)]])
    behind = too_often[in_turn]
    selected = np.concatenate([in_turn[~behind], in_turn[behind]])[: context.count]
    return replace(choice, selected=selected)


def _checked_memory(
    memory: Mapping[str, NDArray[np.float64]] | None, clients: int, name: str
) -> Mapping[str, NDArray[np.float64]] | None:
    if memory is None:
        return None
    kept = {key: np.array(values, dtype=np.float64) for key, values in memory.items()}
    for key, values in kept.items():
        if values.shape != (clients,) or not np.isfinite(values).all():
            raise RunError(
                f"the selection rule {name!r} remembers {key!r} of shape {values.shape}: it must "
                f"be one finite number for each of the {clients} clients"
            )
    return kept


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
