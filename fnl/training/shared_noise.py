"""A client's part of a sum whose noise is shared: rounded, with its share of noise, and masked."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.data.federated import open_federation
from fnl.privacy.noise import noise_source
from fnl.privacy.secure_sum import mask_of
from fnl.privacy.shared_noise import SharedSum
from fnl.randomness import Purpose
from fnl.schedule import asked_in
from fnl.training.spending import noise_of, workloads_of_all
from fnl.training.units import unit_counts


@lru_cache(maxsize=4)
def shared_sum_of(config: Config, numbers: int) -> SharedSum:
    """Return the arithmetic of a run's sums, the same for all clients: all of it is public.

    Args:
        config: of the run.
        numbers: that are trained.

    Raises:
        ConfigError: if no noise keeps every client's budget, or its shares are too coarse.
    """
    sizes = unit_counts(config, open_federation(config))
    asked = next(work for work in workloads_of_all(config) if work.rounds)
    return SharedSum(
        numbers=numbers,
        clip_norm=config.privacy.clip_norm,
        noise_multiplier=noise_of(config, asked).gradients,
        survivors=config.noise_survivors,
        clients=config.coordination.candidates,
        clips=sum(sizes),
    )


def masked_share(
    config: Config, total: NDArray[np.float64], path: tuple[int, int]
) -> NDArray[np.uint32]:
    """Return what a client sends of its clipped sum [P]; it tells nothing by itself.

    Args:
        config: of the run.
        total: the sum.
        path: the round and the client's partition.
    """
    server_round, partition = path
    seed, cohort = config.run.seed, asked_in(config, server_round).tolist()
    source = noise_source(config, Purpose.PRIVACY_NOISE, *path)
    noised = shared_sum_of(config, total.size).noised(total, source)
    return noised + mask_of(partition, cohort, total.size, seed=seed, server_round=server_round)
