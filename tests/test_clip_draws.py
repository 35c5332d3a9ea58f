"""What clips draw: the published generator, uniform numbers, and each clip's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from fnl.clip_draws import DrawKeys, clip_ids
from fnl.randomness import Purpose
from fnl.snn.kernels.philox_numba import uniform


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """Philox4x32-10 by its paper, on Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (second >> 32) ^ c[1] ^ k[0],
            second & 0xFFFFFFFF,
            (first >> 32) ^ c[3] ^ k[1],
            first & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_reference_has_the_known_answers_of_random123(counter, key, words):
    assert philox(counter, key) == list(words)


def test_the_kernel_is_philox():
    key, ids, step = 0x0123456789ABCDEF, [0, 5, 2**64 - 1, 0x243F6A8885A308D3], 2**31 + 7
    out = np.empty((len(ids), 40), np.float32)
    uniform(np.uint64(key), np.array(ids, np.uint64), np.uint64(step), out)
    for row, clip in zip(out, ids, strict=True):
        words = [
            word
            for block in range(10)
            for word in philox(
                (block, step, clip & 0xFFFFFFFF, clip >> 32), (key & 0xFFFFFFFF, key >> 32)
            )
        ]
        np.testing.assert_array_equal(row, [(word >> 8) / 2**24 for word in words])


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(0))


def test_numbers_are_uniform_and_independent_over_clips_steps_layers_and_keys(clips):
    drawn = {
        (keys, number, step): DrawKeys.seeded(3, 1, keys)
        .of(clips)
        .batch(slice(None), step)
        .uniform(Purpose.DROPOUT, number, (50, 9))
        for keys in (0, 1)
        for number in (0, 1)
        for step in (0, 1)
    }
    rows = torch.cat([one.flatten(1) for one in drawn.values()]).double()
    assert kstest(rows.flatten().numpy(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(rows.numpy())[np.triu_indices(len(rows), 1)]
    # 51,040 pairs of 450 numbers: standard deviation 0.047, six of them
    assert abs(correlations).max() < 6 / 450**0.5


def test_a_clips_numbers_do_not_depend_on_who_else_is_there(clips):
    keys = DrawKeys.seeded(0, 2, 5)

    def drawn(held: torch.Tensor, rows: list[int]) -> torch.Tensor:
        return keys.of(held).batch(rows, 6).uniform(Purpose.ENCODING, 0, (5, 3))

    everyone = drawn(clips, list(range(40)))
    without = torch.cat([clips[:7], clips[8:]])  # every later clip has another row now
    assert torch.equal(drawn(without, list(range(39))), torch.cat([everyone[:7], everyone[8:]]))
    assert torch.equal(drawn(clips, [30, 2, 11]), everyone[[30, 2, 11]])


@pytest.mark.parametrize("places", [[], [4], [0, 1, 2], [2, 3, 8], range(9), [8, 0]])
def test_at_some_places_of_several_views_is_drawn_what_all_draw_there(clips, places):
    batch = DrawKeys.seeded(0).of(clips).batch([30, 2, 11], 6, views=3)
    everywhere = batch.uniform(Purpose.DROPOUT, 1, (5,))
    there = batch.only(places).uniform(Purpose.DROPOUT, 1, (5,))
    assert torch.equal(there, everywhere[list(places)])


def test_clips_are_told_by_their_features(clips):
    ids = clip_ids(clips)
    assert len(set(ids.tolist())) == 40
    changed = clips.clone()
    changed[4, 2, 1] = changed[4, 2, 1].nextafter(torch.tensor(9.0))
    assert (clip_ids(changed) != ids).nonzero()[0].tolist() == [4]
    half = clips.half()
    assert clip_ids(half).tolist() == clip_ids(half.float()).tolist()
    assert clip_ids(clips[:0]).shape == (0,)


def test_seeded_keys_are_named_and_secure_ones_nobody_derives_again():
    def key(keys: DrawKeys, purpose: Purpose = Purpose.DROPOUT, number: int = 0) -> int:
        return int(keys.key(purpose, number))

    base = key(DrawKeys.seeded(7, 3, 11))
    assert base == key(DrawKeys.seeded(7, 3, 11)) == 17565355558802589040
    others = {
        key(DrawKeys.seeded(8, 3, 11)),
        key(DrawKeys.seeded(7, 4, 11)),
        key(DrawKeys.seeded(7, 3, 12)),
        key(DrawKeys.seeded(7, 3, 11), Purpose.ENCODING),
        key(DrawKeys.seeded(7, 3, 11), number=1),
        key(DrawKeys.secure()),
        key(DrawKeys.secure()),
    }
    assert len(others | {base}) == 8
    secure = DrawKeys.secure()
    assert key(secure) == key(secure)
    assert str(secure.entropy) not in repr(secure)
