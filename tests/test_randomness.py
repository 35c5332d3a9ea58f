"""Named random streams: pinned for ever, apart from each other, in any order."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from fnl.randomness import Purpose, stream, torch_stream


def first(seed: int, purpose: Purpose, *path: int) -> int:
    return int(stream(seed, purpose, *path).integers(0, 2**63 - 1))


def test_streams_are_pinned():
    # Another value here means that every run ever recorded can no longer be replayed.
    assert stream(0, Purpose.CANDIDATES, 1).bit_generator.random_raw(3).tolist() == [
        2162175121081297100, 1298040850439260726, 8488750714880753936,
    ]  # fmt: skip
    assert stream(7, Purpose.BATCHES, 3, 11).random(3).tolist() == [
        0.9696506815291392, 0.6989235923265839, 0.45327050478620257,
    ]  # fmt: skip
    generator = torch_stream(7, Purpose.PRIVACY_NOISE, 3, 11)
    assert generator.initial_seed() == 4397625953692814316
    assert torch.rand(2, generator=generator).tolist() == [0.4988131523132324, 0.9811419248580933]


def test_numbers_of_purposes_are_pinned_and_distinct():
    pinned = {
        "PARTITION": 1, "INITIAL_WEIGHTS": 2, "CANDIDATES": 3, "SELECTION": 4, "BATCHES": 5,
        "PRIVACY_NOISE": 6, "ENCODING": 7, "DROPOUT": 8, "SYNTHETIC_SPEAKER": 9,
        "SYNTHETIC_CLIP": 10, "SPLIT": 11, "UNKNOWN_WORDS": 12, "SILENCE": 13,
        "RATE_NOISE": 14, "AUGMENTATION": 15, "CANARIES": 30, "INCLUSION": 31, "SHADOW_MODELS": 32,
    }  # fmt: skip
    assert pinned.items() <= {name: int(p) for name, p in Purpose.__members__.items()}.items()
    assert len(set(Purpose)) == len(Purpose.__members__)


def test_streams_do_not_depend_on_order_or_on_what_else_was_drawn():
    names = [(s, p, r, k) for s in (0, 1) for p in Purpose for r in (0, 1) for k in (0, 1)]
    forwards = {name: first(*name) for name in names}
    np.random.default_rng().random(100)
    torch.rand(3)
    assert {name: first(*name) for name in reversed(names)} == forwards


def test_every_name_has_a_stream_of_its_own():
    paths = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (2**31,)]
    names = itertools.product((0, 1, 2**32, 2**63 - 1), Purpose, paths)
    values = [first(seed, purpose, *path) for seed, purpose, path in names]
    assert len(set(values)) == len(values)


def test_neighbouring_streams_look_independent():
    # adjacent rounds and partitions: no correlation, and each uniform
    draws = np.array([stream(0, Purpose.BATCHES, 1, k).random(1000) for k in range(64)])
    correlation = np.corrcoef(draws)[np.triu_indices(64, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)
    assert stats.kstest(draws[:, 0], "uniform").pvalue > 1e-3
    normal = np.array(
        [
            torch.randn(1, generator=torch_stream(0, Purpose.PRIVACY_NOISE, 1, k)).item()
            for k in range(500)
        ]
    )
    assert stats.kstest(normal, "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", [(-1,), (0, -1), (0, 3, -1)])
def test_negative_coordinates_are_refused(name):
    seed, *path = name
    with pytest.raises(ValueError, match="non-negative"):
        stream(seed, Purpose.BATCHES, *path)
