"""From a checkpoint back to a server that goes on: what it holds must fit the run."""

from __future__ import annotations

import numpy as np
from torch import nn

from fnl.errors import RunError, one_line
from fnl.runtime.saved_rounds import RunState
from fnl.weights import Weights, view_weights
from server.rounds import Rounds
from server.spending import Spending


def take_over(state: RunState, network: nn.Module, rounds: Rounds, spending: Spending) -> Weights:
    """Set `rounds` and `spending` to where the run stood, and return its global weights.

    Raises:
        RunError: if something in the checkpoint is not of this run.
    """
    own = view_weights(network)
    shapes = {name: value.shape for name, value in own.items()}
    if {name: value.shape for name, value in state.weights.items()} != shapes:
        raise RunError("the checkpoint's weights are not those of the configured network")
    if any(value.dtype != own[name].dtype for name, value in state.weights.items()):
        raise RunError("the checkpoint's weights are no 32-bit numbers")
    if not all(np.isfinite(value).all() for value in state.weights.values()):
        raise RunError("the checkpoint's weights are not finite")
    rounds.restore(state.strategy)
    if not rounds.residuals.fit(shapes):
        raise RunError("the checkpoint's residuals are not of the configured network")
    average = rounds.average
    if average is not None and {name: a.shape for name, a in average.items()} != shapes:
        raise RunError("the checkpoint's moving average is not of the configured network")
    if rounds.averages and state.server_round and average is None:
        raise RunError("the checkpoint lacks the moving average that the run evaluates")
    try:
        spending.restore(state.server)
    except ValueError as error:
        raise RunError(
            f"the checkpoint's record of what clients have spent is damaged: {one_line(error)}"
        ) from None
    return {name: state.weights[name] for name in own}  # in their order, not the file's
