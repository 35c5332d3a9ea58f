"""The decoder: exact without noise, optimal where theory says what is, and blind to units."""

import numpy as np
import pytest
from scipy.stats import norm

from fnl.audit.decoder import CoinDecoder
from fnl.audit.membership import auc


def rounds(seed: int, canaries: int, size: int, *, common: float, noise: float, count: int):
    """Return the coins and, of each round, contributions [m, D], what is known [D], release [D]."""
    generator = np.random.default_rng(seed)
    included = generator.random(canaries) < 0.5
    made = []
    for _ in range(count):
        shared = generator.standard_normal(size)
        columns = common * shared + generator.standard_normal((canaries, size))
        columns /= np.linalg.norm(columns, axis=1, keepdims=True)
        known = 3 * shared + generator.standard_normal(size)
        release = columns[included].sum(axis=0) + known + noise * generator.standard_normal(size)
        made.append((columns, known, release))
    return included, made


def decode(made, scale: float = 1.0) -> np.ndarray:
    decoder = CoinDecoder(len(made[0][0]))
    for columns, known, release in made:
        decoder.add(columns, known, scale * release)
    return decoder.scores()


def test_without_noise_every_coin_is_read():
    included, made = rounds(0, 60, 40, common=0.7, noise=0.0, count=2)
    assert ((decode(made) > 0) == included).all()


def test_orthogonal_canaries_are_told_apart_as_well_as_is_possible():
    # coin times 1 in noise of 0.8, two rounds: the best test has AUC Φ(√2/0.8/√2)
    found = []
    for seed in range(5):
        included, made = rounds(seed, 300, 5000, common=0.0, noise=0.8, count=2)
        scores = decode(made)
        found.append(auc(scores[included], scores[~included]))
    best = norm.cdf(2**0.5 / 0.8 / 2**0.5)
    assert best - 0.04 < np.mean(found) < best + 0.02


def test_other_canaries_and_known_clips_are_taken_out():
    included, made = rounds(1, 300, 2000, common=1.0, noise=0.3, count=1)
    columns, _, release = made[0]
    scores, naive = decode(made), columns @ release
    assert auc(naive[included], naive[~included]) < 0.75
    assert auc(scores[included], scores[~included]) > 0.95


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_the_release_do_not_matter(scale):
    _, made = rounds(2, 50, 400, common=0.5, noise=0.5, count=2)
    np.testing.assert_allclose(decode(made, scale), decode(made), rtol=1e-4, atol=1e-4)


def test_scores_are_log_likelihood_ratios():
    # among canaries with a score near s, the odds of being in are e^s
    scores, coins = [], []
    for seed in range(40):
        included, made = rounds(seed, 200, 3000, common=0.0, noise=0.7, count=1)
        scores.append(decode(made))
        coins.append(included)
    score, coin = np.concatenate(scores), np.concatenate(coins)
    for low in (-2.0, -1.0, 0.0, 1.0):
        near = (score > low) & (score < low + 1)
        share = coin[near].mean()
        assert share == pytest.approx(1 / (1 + np.exp(-score[near].mean())), abs=0.06)


def test_too_many_canaries_for_the_numbers_released_are_refused():
    decoder = CoinDecoder(10)
    decoder.add(np.eye(10), np.ones(10), np.ones(10))
    with pytest.raises(ValueError, match="10 released numbers cannot tell 10 canaries apart"):
        decoder.scores()
