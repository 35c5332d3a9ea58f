"""Poisson samples: each clip is in each mini-batch with probability q, on its own.

Amplification by sampling holds against those who cannot tell who was drawn: mini-batches from a
seed that others know amplify nothing, so on a device they come from the operating system.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from opacus.utils.uniform_sampler import UniformWithReplacementSampler

from fnl.privacy.noise import SecureNoise


def poisson_samples(
    clips: int, sample_rate: float, steps: int, source: torch.Generator | SecureNoise
) -> Iterator[list[int]]:
    """Yield the rows of each of `steps` mini-batches of `clips` clips; some may be empty."""
    if isinstance(source, torch.Generator):
        yield from UniformWithReplacementSampler(
            num_samples=clips, sample_rate=sample_rate, generator=source, steps=steps
        )
        return
    for _ in range(steps):
        yield np.flatnonzero(source.uniform((clips,)) < sample_rate).tolist()
