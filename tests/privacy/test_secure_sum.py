"""The stand-in for secure aggregation: sums are exact, and one vector is noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fnl.errors import RunError
from fnl.privacy.secure_sum import mask_of, opened

COHORT, SIZE = [2, 3, 5, 7, 11, 13], 4096
IN_ROUND = {"seed": 4, "server_round": 9}


@pytest.fixture
def plain() -> dict[int, np.ndarray]:
    draw = np.random.default_rng(0)
    return {k: draw.integers(0, 2**32, SIZE, dtype=np.uint32) for k in COHORT}


def masked(plain):
    return {k: v + mask_of(k, COHORT, SIZE, **IN_ROUND) for k, v in plain.items()}


def total(plain, partitions):
    """The sum modulo 2^32 by whole numbers of any length."""
    summed = np.sum([plain[k].astype(object) for k in partitions], axis=0)
    return (summed % 2**32).astype(np.uint32)


@pytest.mark.parametrize("dropped", [[], [2], [13], [3, 7, 11], [3, 5, 7, 11]])
def test_the_sum_of_the_survivors_is_exact_whoever_drops_out(plain, dropped):
    left = {k: v for k, v in masked(plain).items() if k not in dropped}
    found = opened(left, cohort=COHORT, threshold=2, **IN_ROUND)
    np.testing.assert_array_equal(found, total(plain, left))


def test_the_order_in_which_vectors_come_changes_nothing(plain):
    there = {k: v for k, v in masked(plain).items() if k != 5}
    backwards = dict(reversed(there.items()))
    one, other = (opened(v, cohort=COHORT, threshold=2, **IN_ROUND) for v in (there, backwards))
    np.testing.assert_array_equal(one, other)


def test_too_few_survivors_open_nothing(plain):
    left = {k: v for k, v in masked(plain).items() if k in (2, 3)}
    with pytest.raises(RunError, match=r"2 of 6 clients .*noise-survivors = 3"):
        opened(left, cohort=COHORT, threshold=3, **IN_ROUND)


@pytest.mark.parametrize("value", [0, 1, 2**31])
def test_a_single_vector_is_uniform_whatever_is_in_it(value):
    sent = np.full(SIZE, value, np.uint32) + mask_of(5, COHORT, SIZE, **IN_ROUND)
    assert stats.kstest(sent / 2**32, "uniform").pvalue > 1e-6
    assert stats.chisquare(np.bincount(sent % 256, minlength=256)).pvalue > 1e-6
    assert abs(np.corrcoef(sent[:-1].astype(float), sent[1:].astype(float))[0, 1]) < 0.1


def test_all_but_two_together_are_uniform_too(plain):
    """What is not opened, the sum of fewer, is noise as well."""
    some = np.sum([masked(plain)[k] for k in COHORT[:-1]], axis=0, dtype=np.uint32)
    hidden = some - total(plain, COHORT[:-1])
    assert stats.kstest(hidden / 2**32, "uniform").pvalue > 1e-6


def test_masks_are_new_in_every_round_and_of_every_pair():
    masks = [
        mask_of(k, COHORT, SIZE, seed=seed, server_round=number)
        for k, seed, number in [(2, 4, 9), (2, 4, 10), (2, 5, 9), (3, 4, 9)]
    ]
    assert len({mask.tobytes() for mask in masks}) == len(masks)
