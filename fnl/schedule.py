"""Which clients are asked in which round: a public schedule, known before the run starts.

The candidates of a round are drawn uniformly without replacement from a stream of the run's seed.
The draw looks at no data, so it costs no privacy; no amplification by client sampling is claimed
either. As it is known in advance, each client can set its noise for exactly its own part.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fnl.randomness import Purpose, stream


def candidates(seed: int, server_round: int, clients: int, count: int) -> NDArray[np.int64]:
    """Return the sorted partitions of the `count` candidates of a round: int64 [count]."""
    generator = stream(seed, Purpose.CANDIDATES, server_round)
    return np.sort(generator.choice(clients, size=count, replace=False, shuffle=False))


@lru_cache(maxsize=8)
def planned_participations(seed: int, rounds: int, clients: int, count: int) -> NDArray[np.int64]:
    """Return how often each partition is a candidate in `rounds` rounds: int64 [clients]."""
    planned = np.zeros(clients, dtype=np.int64)
    for server_round in range(1, rounds + 1):
        planned[candidates(seed, server_round, clients, count)] += 1
    planned.flags.writeable = False
    return planned
