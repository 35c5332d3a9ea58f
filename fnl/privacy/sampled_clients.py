"""Candidates drawn in secret: each client of each round by itself, with probability q = d/N.

That is the sampling of DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963). The sum of the clipped
updates is divided by what is expected of it, not by what came: θ + Σ_{k drawn} w_k·clip_S(Δ_k),
w_k = n_k / (q·Σ_j n_j) over *all* clients j. A client is in the sum or not by a coin that nobody
sees, and nothing else of the round depends on that coin. So the round is a Poisson-subsampled
Gaussian mechanism of rate q (`client_level`), of each client in all rounds alike.

The coins are as secret as what they come from: the operating system under `privacy.secure-noise`,
which a deployment needs, else a named stream of `run.seed`, for simulation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fnl.config import Config
from fnl.privacy.noise import noise_source
from fnl.randomness import Purpose
from fnl.schedule import asked_in


def drawn_candidates(config: Config, server_round: int) -> NDArray[np.int64]:
    """Return the sorted partitions of the candidates of a round, int64 [d or another number].

    They are drawn now, where they are drawn in secret: ask once a round. The operating system's
    coins fall otherwise when they are thrown again.
    """
    if not config.samples_candidates:
        return asked_in(config, server_round)
    coins = noise_source(config, Purpose.SAMPLED_CANDIDATES, server_round)
    return np.flatnonzero(coins.uniform(size=(config.data.clients,)) < config.sampling_rate)


def expected_shares(config: Config, clips: ArrayLike | None) -> NDArray[np.float64]:
    """Return w_k of every client, should it be drawn: float64 [N]. They sum to 1/q.

    Args:
        config: of the run.
        clips: n_k of each client; None where the server does not know them: all count the same.
    """
    counts = np.ones(config.data.clients) if clips is None else np.asarray(clips, np.float64)
    return counts / (config.sampling_rate * counts.sum())
