"""What passes from round to round beside the model, and how a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.errors import RunError
from fnl.weights import Weights, under
from server.aggregation import OptimizerState
from server.algorithm import checked_state
from server.context import History, State
from server.residuals import Residuals

_HISTORY, _OPTIMIZER, _AVERAGE, _ALGORITHM = "history/", "optimizer/", "average/", "algorithm/"
_RESIDUAL = "residual/"


@dataclass
class Carried:
    """All that passes from round to round but for the model itself.

    Attributes:
        history: who was selected so far.
        algorithm: what `coordination.algorithm` keeps; empty without.
        optimizer: the server optimizer's state.
        average: moving average of the global models so far; empty where none is kept.
        residuals: what simulated clients have left unsent.
    """

    history: History
    algorithm: State
    optimizer: OptimizerState = field(default_factory=dict)
    average: Weights = field(default_factory=dict)
    residuals: Residuals = field(default_factory=Residuals)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of it as named arrays."""
        history = {f"{_HISTORY}{name}": a for name, a in self.history.state().items()}
        optimizer = {f"{_OPTIMIZER}{name}": a.copy() for name, a in self.optimizer.items()}
        average = {f"{_AVERAGE}{name}": a for name, a in self.average.items()}
        algorithm = {f"{_ALGORITHM}{name}": np.array(a) for name, a in self.algorithm.items()}
        residuals = {f"{_RESIDUAL}{name}": a for name, a in self.residuals.state().items()}
        return {**history, **optimizer, **average, **algorithm, **residuals}

    def restored(self, state: Mapping[str, NDArray[np.generic]], config: Config) -> Carried:
        """Return what `state()` gave, for a run whose algorithm keeps what this one has.

        Raises:
            RunError: if it is not of this federation.
        """
        clients = config.data.clients
        kept = under(_ALGORITHM, state)
        history = History.from_state(under(_HISTORY, state), clients)
        residuals = Residuals.from_state(under(_RESIDUAL, state), clients)
        if missing := sorted(self.algorithm.keys() - kept.keys()):
            raise RunError(f"the saved state lacks {missing[0]!r} of coordination.algorithm")
        return Carried(
            history,
            checked_state(kept, config.coordination.algorithm),
            under(_OPTIMIZER, state),
            {name: np.asarray(a, np.float32) for name, a in under(_AVERAGE, state).items()},
            residuals,
        )
