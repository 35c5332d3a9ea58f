"""What an aggregation rule takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.wire.report import ClientReport
from server.context import RoundContext


@dataclass(frozen=True)
class Mixing:
    """Shares of the selected models in the next global one; what they leave stays as it was.

    Attributes:
        shares: float64 [m], not negative, with a sum of at most 1.
    """

    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """What a rule returned, checked.

    Attributes:
        clients: share of each selected model, float64 [m].
        kept: share of the global model itself; 0 for a rule that gives weights.
    """

    clients: NDArray[np.float64]
    kept: float = 0.0


AggregationRule = Callable[[Sequence[ClientReport], RoundContext], NDArray[np.float64] | Mixing]
