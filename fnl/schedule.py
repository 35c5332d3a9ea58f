"""Which clients are asked in which round: a public schedule, known before the run starts.

Candidates that are drawn in secret have none (`fnl.privacy.sampled_clients`).

The candidates of a round are drawn uniformly without replacement from a stream of the run's seed,
or asked in turn in an order that is drawn once. Neither looks at data, so it costs no privacy; no
amplification by client sampling is claimed for it. As it is known in advance, each client can set
its noise for exactly its own part. What is asked in turn is asked equally often, so that whoever is
asked most often, whose budget sets the noise of client level, is asked as seldom as can be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.errors import ConfigError
from fnl.randomness import Purpose, stream

Kind = Literal["random", "balanced"]


def asked_in(config: Config, server_round: int) -> NDArray[np.int64]:
    """Return the sorted partitions of the candidates of a round of a run: int64 [d].

    Raises:
        ConfigError: if candidates are drawn in secret.
    """
    asked, kind = config.coordination.candidates, _kind(config)
    return candidates(config.run.seed, server_round, config.data.clients, asked, kind)


def planned_of(config: Config, rounds: int) -> NDArray[np.int64]:
    """Return how often each partition is a candidate in the first `rounds` rounds: int64 [N].

    Raises:
        ConfigError: if candidates are drawn in secret.
    """
    asked, kind = config.coordination.candidates, _kind(config)
    return planned_participations(config.run.seed, rounds, config.data.clients, asked, kind)


def _kind(config: Config) -> Kind:
    if config.coordination.schedule == "poisson":
        raise ConfigError(
            "coordination.schedule = 'poisson' keeps secret who is asked when, and there is no "
            "schedule to go by: use 'random' or 'balanced'"
        )
    return config.coordination.schedule


def candidates(
    seed: int, server_round: int, clients: int, count: int, kind: Kind = "random"
) -> NDArray[np.int64]:
    """Return the sorted partitions of the `count` candidates of a round: int64 [count].

    `balanced`: the next `count` of an order of all clients, over and over. In any number of rounds
    two clients' counts differ by at most one, and ⌊N/d⌋ - 1 rounds or more are between two of one.
    """
    if kind == "balanced":
        order = stream(seed, Purpose.CANDIDATES_IN_TURN).permutation(clients)
        first = (server_round - 1) * count
        return np.sort(order[np.arange(first, first + count) % clients])
    generator = stream(seed, Purpose.CANDIDATES, server_round)
    return np.sort(generator.choice(clients, size=count, replace=False, shuffle=False))


@lru_cache(maxsize=8)
def planned_participations(
    seed: int, rounds: int, clients: int, count: int, kind: Kind = "random"
) -> NDArray[np.int64]:
    """Return how often each partition is a candidate in `rounds` rounds: int64 [clients]."""
    planned = np.zeros(clients, dtype=np.int64)
    for server_round in range(1, rounds + 1):
        planned[candidates(seed, server_round, clients, count, kind)] += 1
    planned.flags.writeable = False
    return planned
