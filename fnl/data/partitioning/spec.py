"""What is asked of a partitioning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from fnl.errors import PartitionError
from fnl.randomness import Purpose, stream


class Draw(IntEnum):
    """What a random stream of a partitioning decides. Never reuse a number."""

    SHUFFLE = 0
    FLOWER_SEED = 1
    PROPORTIONS = 2
    SIZES = 3
    SPEAKERS = 4
    SHARDS = 5
    CUSTOM = 6


@dataclass(frozen=True)
class PartitionSpec:
    """How clips are split over clients.

    Attributes:
        partitioner: "speaker", "dirichlet", "shards", "iid" or `module:function` of your own.
        clients: number of partitions, N.
        alpha: concentration of the Dirichlet label skew; small is skewed ("dirichlet").
        labels_per_client: labels that each client holds, k ("shards").
        quantity_alpha: 0 for none, else client sizes ~ Dirichlet(quantity_alpha) ("iid" only).
        min_clips: fewest clips that a client may have.
        seed: seed of every random decision, taken through `fnl.randomness`.

    Raises:
        PartitionError: if a number is out of range.
    """

    partitioner: str
    clients: int
    alpha: float = 0.3
    labels_per_client: int = 2
    quantity_alpha: float = 0.0
    min_clips: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clients", "labels_per_client", "min_clips"):
            if getattr(self, name) < 1:
                raise PartitionError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise PartitionError(f"alpha must be a positive number, not {self.alpha}")
        if not (math.isfinite(self.quantity_alpha) and self.quantity_alpha >= 0):
            raise PartitionError(
                f"quantity_alpha must be 0 (no skew) or positive, not {self.quantity_alpha}"
            )
        if self.seed < 0:
            raise PartitionError(f"seed must not be negative, not {self.seed}")

    def stream(self, draw: Draw) -> np.random.Generator:
        """Return the generator of one kind of random decision of this partitioning."""
        return stream(self.seed, Purpose.PARTITION, int(draw))
