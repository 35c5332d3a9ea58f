"""Secure aggregation as far as the server sees it: masked integers, and the sum of them opened.

Each pair of clients shares a mask that one adds and the other subtracts, modulo 2^32 (Bonawitz et
al. 2017, doi 10.1145/3133956.3133982). One client's vector is then uniformly random to whoever does
not know its masks, and the sum of all is the sum. Of a client that dropped out the masks of the
others stay in the sum; survivors recover them from shares of its key.

**What is simulated.** Masks come from named streams of the run's seed, in place of agreed keys, and
`opened` is the stand-in for recovery: it knows the seed. Who knows the seed can take masks off, so
that in a simulation nothing is hidden from its user. There are no keys, no second masks against a
server that lies about who dropped out, and no checks of who is who.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.randomness import Purpose, stream

Vector = NDArray[np.uint32]


def mask_of(
    partition: int, cohort: Sequence[int], size: int, *, seed: int, server_round: int
) -> Vector:
    """Return what `partition` adds to its vector [size]: over the whole cohort this sums to 0."""
    return _masks(partition, cohort, size, seed, server_round)


def opened(
    masked: Mapping[int, Vector],
    *,
    cohort: Sequence[int],
    threshold: int,
    seed: int,
    server_round: int,
) -> Vector:
    """Return the sum of what survivors masked, modulo 2^32, and nothing else of them.

    Args:
        masked: partition -> vector, of those that answered.
        cohort: partitions that were asked.
        threshold: fewest survivors with whom keys are recovered.
        seed: of the run.
        server_round: the round.

    Raises:
        RunError: if fewer survived.
    """
    if len(masked) < threshold:
        raise RunError(
            f"round {server_round}: {len(masked)} of {len(cohort)} clients are left, "
            f"privacy.noise-survivors = {threshold} are needed to open their sum"
        )
    vectors = list(masked.values())
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    dropped = sorted(set(cohort) - masked.keys())
    for partition in masked:
        total -= _masks(partition, dropped, total.size, seed, server_round)
    return total


def _masks(
    partition: int, others: Sequence[int], size: int, seed: int, server_round: int
) -> Vector:
    """Return the sum of the masks that `partition` has with `others`."""
    total = np.zeros(size, np.uint32)
    for other in others:
        if other == partition:
            continue
        first, second = sorted((partition, other))
        agreed = stream(seed, Purpose.MASKS, server_round, first, second)
        mask = agreed.integers(0, 2**32, size, dtype=np.uint32)
        if partition == first:
            total += mask
        else:
            total -= mask
    return total
