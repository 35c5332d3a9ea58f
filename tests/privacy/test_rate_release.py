"""The release of rates: its formula, its sensitivity, its noise, and what it hides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fnl.privacy.noise import SecureNoise
from fnl.privacy.rate_release import clip_to_norm, per_clip_rates, release

finite = st.floats(-1e6, 1e6)
matrices = arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=finite)


def noiseless(per_clip, clip_norm: float = 1.0, num_clips: int = 10):
    return release(
        per_clip, clip_norm=clip_norm, noise_multiplier=0.0, num_clips=num_clips,
        generator=np.random.default_rng(0),
    )  # fmt: skip


@given(matrices, st.floats(1e-3, 1e3))
def test_clipped_rows_keep_their_direction_and_no_row_is_longer_than_the_bound(rows, clip_norm):
    clipped = clip_to_norm(rows, clip_norm)
    for row, bounded in zip(rows, clipped, strict=True):
        norm = math.sqrt(math.fsum(value**2 for value in row))
        assert math.sqrt(math.fsum(value**2 for value in bounded)) <= clip_norm * (1 + 1e-12)
        factor = min(1.0, clip_norm / norm) if norm else 1.0
        np.testing.assert_allclose(bounded, row * factor, rtol=1e-8, atol=1e-9)


@given(matrices, st.data())
def test_one_clip_moves_the_sum_by_no_more_than_the_bound(rows, data):
    # from rates that were not clipped, one clip could move it by a million
    gone = data.draw(st.integers(0, len(rows) - 1))
    moved = 10 * (noiseless(rows, 0.3) - noiseless(np.delete(rows, gone, axis=0), 0.3))
    assert np.linalg.norm(moved) <= 0.3 * (1 + 1e-9)


def test_clips_are_clipped_alone_not_their_mean():
    rows = np.array([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.1]])
    np.testing.assert_allclose(noiseless(rows, 1.0, 3), [0.0, 0.1 / 3], atol=1e-12)


def test_short_vectors_are_released_as_their_mean_over_the_public_number():
    rows = np.array([[0.1, 0.2], [0.3, 0.0]])
    np.testing.assert_allclose(noiseless(rows, 1.0, 2), rows.mean(axis=0))
    np.testing.assert_allclose(noiseless(rows, 1.0, 8), rows.sum(axis=0) / 8)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(("sigma", "clip_norm", "clips"), [(1, 1, 1), (4, 1, 1), (2, 0.3, 50)])
def test_the_noise_is_normal_with_the_variance_of_the_formula(sigma, clip_norm, clips, secure):
    entries = 4000
    generator = SecureNoise() if secure else np.random.default_rng(1)
    noise = release(
        np.zeros((3, entries)), clip_norm=clip_norm, noise_multiplier=sigma, num_clips=clips,
        generator=generator,
    )  # fmt: skip
    ratio = (noise**2).sum() / (sigma * clip_norm / clips) ** 2
    # so rarely outside that secure noise, which differs at every run, does not fail by chance
    low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], entries)
    assert low < ratio < high
    assert stats.kstest(noise / (sigma * clip_norm / clips), "norm").pvalue > 1e-7


def test_the_same_stream_gives_the_same_noise_and_the_system_never_does():
    rows = np.zeros((2, 50))

    def noise(generator):
        return release(rows, clip_norm=1.0, noise_multiplier=1.0, num_clips=2, generator=generator)

    assert np.array_equal(noise(np.random.default_rng(3)), noise(np.random.default_rng(3)))
    assert not np.array_equal(noise(np.random.default_rng(3)), noise(np.random.default_rng(4)))
    assert not np.array_equal(noise(SecureNoise()), noise(SecureNoise()))


def test_no_entry_depends_on_the_number_of_clips_of_a_class():
    # nine clips of class 0 and one of class 1: a mean over the class would give both the rate 0.5
    layer_rates = np.full((10, 1), 0.5)
    labels = np.array([0] * 9 + [1])
    rates = per_clip_rates(layer_rates, (4,), labels, 3).mean(axis=0)
    np.testing.assert_allclose(rates, [0.5, 0.45, 0.05, 0.0])


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_the_classes_parts_add_up_to_the_rate_of_the_network(clips, layers, classes, seed):
    generator = np.random.default_rng(seed)
    layer_rates = generator.random((clips, layers))
    neurons = tuple(int(size) for size in generator.integers(1, 50, layers))
    labels = generator.integers(0, classes, clips)
    vectors = per_clip_rates(layer_rates, neurons, labels, classes)
    assert vectors.shape == (clips, layers + classes)
    rates = vectors.mean(axis=0)[layers:]
    expected = np.average(layer_rates.mean(axis=0), weights=neurons)
    assert rates.sum() == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_clip": np.zeros(3)}, {"per_clip": np.full((2, 2), np.nan)}, {"clip_norm": 0.0},
        {"clip_norm": math.inf}, {"noise_multiplier": -1.0}, {"noise_multiplier": math.nan},
        {"num_clips": 0},
    ],
)  # fmt: skip
def test_what_has_no_bound_is_refused(wrong):
    fine = {
        "per_clip": np.zeros((2, 2)), "clip_norm": 1.0, "noise_multiplier": 1.0, "num_clips": 2,
        "generator": np.random.default_rng(0),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"finite"):
        release(**{**fine, **wrong})
