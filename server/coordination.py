"""What a round's rules decide, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.exchange import ClientReport
from fnl.randomness import Purpose, stream
from fnl.weights import Weights
from server.aggregation import AGGREGATION_RULES, normalised_weights
from server.selection import SELECTION_RULES, Scores, select


@dataclass(frozen=True)
class Coordination:
    """What a round's rules decided, over candidates in partition order.

    Attributes:
        scores: float64 [d].
        selected: positions of the selected candidates, best first, int64 [m].
        weights: share of each selected candidate, float64 [m].
    """

    scores: Scores
    selected: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class RoundOutcome:
    """One round of training as the server saw it.

    Attributes:
        reports: the candidates' reports in partition order.
        decision: scores, selection and weights.
        shadow_decision: the same from the candidates' non-private rates; None without shadows.
        before: global weights the round started from.
        after: global weights it ended with.
        shadow_after: global weights the shadow's updates would have given; None without.
    """

    reports: tuple[ClientReport, ...]
    decision: Coordination
    shadow_decision: Coordination | None
    before: Weights
    after: Weights
    shadow_after: Weights | None


class Coordinator:
    """The configured selection and aggregation rules."""

    def __init__(self, config: Config) -> None:
        coordination = config.coordination
        self._seed = config.run.seed
        self._count = coordination.selected
        self._selection = SELECTION_RULES[coordination.selection]
        self._aggregation = AGGREGATION_RULES[coordination.aggregation]

    def decide(self, server_round: int, reports: Sequence[ClientReport]) -> Coordination:
        """Return whom the rules select and with what weight; `reports` in partition order.

        Raises:
            RunError: if a rule returns what it must not.
        """
        reports = [report.in_range() for report in reports]
        draw = stream(self._seed, Purpose.SELECTION, server_round)
        scores, selected = select(reports, self._selection, self._count, draw)
        chosen = [reports[position] for position in selected]
        return Coordination(scores, selected, normalised_weights(chosen, self._aggregation))
