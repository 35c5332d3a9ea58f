"""A moving average of the global models: what is evaluated and kept, beside what goes on.

It is made of models that have been released, so it costs no privacy. At t rounds model s counts
with a^(t−s), over the sum of all: the first average is the first model, and the weights that the
run started from have no part in it (De et al. 2022, arXiv 2204.13650, average so over steps).
"""

from __future__ import annotations

import numpy as np

from fnl.weights import Weights


def moved(average: Weights, weights: Weights, *, decay: float, server_round: int) -> Weights:
    """Return the average after a round.

    Args:
        average: after the round before; of the first round nothing is taken from it.
        weights: the round's global model.
        decay: a, in (0, 1).
        server_round: t, from 1.
    """
    if server_round == 1:
        return weights
    share = np.float32((1 - decay) / (1 - decay**server_round))
    return {
        name: np.asarray(average[name] + share * (new - average[name]), np.float32)
        for name, new in weights.items()
    }
