"""Named random streams.

Every random decision of a run is drawn from a stream named by (seed, purpose, round, partition).
A stream depends on nothing else, so the same decision falls the same way on every engine, with
any number of workers, in any order of execution, and in a run that differs only in privacy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, unique

import numpy as np
import torch


@unique
class Purpose(IntEnum):
    """What a stream is for. The numbers are part of every run's identity: never reuse one."""

    PARTITION = 1
    INITIAL_WEIGHTS = 2
    CANDIDATES = 3
    SELECTION = 4
    BATCHES = 5
    PRIVACY_NOISE = 6
    ENCODING = 7
    DROPOUT = 8
    SYNTHETIC_SPEAKER = 9
    SYNTHETIC_CLIP = 10
    SPLIT = 11
    UNKNOWN_WORDS = 12
    SILENCE = 13
    RATE_NOISE = 14
    AUGMENTATION = 15
    OWN_MODULES = 18
    CLIENT_NOISE = 20
    FLOOR = 24
    CANARIES = 30
    INCLUSION = 31
    SHADOW_MODELS = 32
    INVERSION = 33
    BOOTSTRAP = 40
    PILOT = 41
    TRIAL = 42
    MASKS = 50
    CLIPS_OF_SPEAKER = 51
    CANDIDATES_IN_TURN = 52
    BANDED_NOISE = 53
    SAMPLED_CANDIDATES = 54
    COMPRESSION = 60
    FRAME_HOPS = 61


def stream(seed: int, purpose: Purpose, *path: int) -> np.random.Generator:
    """Return the NumPy generator of one named stream.

    Args:
        seed: `run.seed` (or a corpus' own seed), non-negative.
        purpose: what the numbers decide.
        path: further coordinates, usually (round, partition); each non-negative.

    Raises:
        ValueError: if the seed or a coordinate is negative.
    """
    if seed < 0 or any(coordinate < 0 for coordinate in path):
        raise ValueError(f"a stream needs non-negative integers, got seed {seed}, path {path}")
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(purpose), *path))
    return np.random.Generator(np.random.PCG64(sequence))


def torch_stream(seed: int, purpose: Purpose, *path: int) -> torch.Generator:
    """Return the torch (CPU) generator of one named stream."""
    generator = torch.Generator()
    generator.manual_seed(int(stream(seed, purpose, *path).integers(0, 2**63 - 1)))
    return generator


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seed the generators that everybody shares, torch's, NumPy's and Python's; put them back.

    Modules of a user's own draw from them: weights, dropout masks, noise.

    Args:
        seed: non-negative, below 2^64.
    """
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 the shared one
    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(seed)
        if cards:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)  # noqa: NPY002
