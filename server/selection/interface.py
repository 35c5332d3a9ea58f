"""What a selection rule takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.wire.report import ClientReport
from server.context import RoundContext

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
