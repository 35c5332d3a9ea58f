"""Canaries: clips made for an attack, each put into a client's data or left out by a fair coin.

The guarantee holds for any clip, so the auditor takes those that give themselves away. A canary
holds one random spectrum for half the clip and its negative for the other half, so that like real
features it has mean zero over time, under a random label. Its gradient is far above usual clipping
bounds and close to orthogonal to those of other canaries, as tests/audit measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.randomness import Purpose, stream

AMPLITUDE = 2.0
"""Standard deviation of a canary's spectrum: about the largest values of real features."""


@dataclass(frozen=True)
class Canaries:
    """Candidate clips of one client, and which of them it really holds.

    Attributes:
        features: float32 [m, T, F].
        labels: int64 [m].
        included: bool [m]; the auditor must not look before it has guessed.
    """

    features: Tensor
    labels: Tensor
    included: NDArray[np.bool_]

    def joined(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return a client's clips with its included canaries after them."""
        rows = torch.from_numpy(self.included)
        return torch.cat([features, self.features[rows]]), torch.cat([labels, self.labels[rows]])


def draw_canaries(seed: int, client: int, count: int, shape: tuple[int, int, int]) -> Canaries:
    """Return `count` canaries of one client with fair, independent coins.

    Args:
        seed: of the audit.
        client: the partition that may hold them.
        count: m.
        shape: steps T and features F of a clip, and the number of labels C.
    """
    steps, bins, classes = shape
    generator = stream(seed, Purpose.CANARIES, client)
    spectrum = AMPLITUDE * generator.standard_normal((count, 1, bins))
    sign = np.where(np.arange(steps) < steps // 2, 1.0, -1.0)[:, None]
    features = torch.from_numpy((spectrum * sign).astype(np.float32))
    labels = torch.from_numpy(generator.integers(0, classes, count))
    return Canaries(features, labels, coins(seed, client, count))


def coins(seed: int, client: int, count: int) -> NDArray[np.bool_]:
    """Return which of `count` canaries are included: fair independent coins, bool [count]."""
    return stream(seed, Purpose.INCLUSION, client).random(count) < 0.5
