"""Noise in shares: what the sum of them is, what it hides, and what ledgers may book for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import stats

from fnl.errors import ConfigError
from fnl.privacy.ledger import Ledger
from fnl.privacy.noise import SecureNoise
from fnl.privacy.shared_noise import SharedSum, discrete_gaussian

SHARED = SharedSum(
    numbers=650, clip_norm=0.5, noise_multiplier=4.0, survivors=20, clients=20, clips=1627
)


def law(parameter: float, shift: int = 0, reach: int = 400) -> np.ndarray:
    """Probabilities of a discrete Gaussian at -reach … reach."""
    weights = np.exp(-((np.arange(-reach, reach + 1) - shift) ** 2) / (2 * parameter**2))
    return weights / weights.sum()


@pytest.mark.parametrize("source", [np.random.default_rng(3), SecureNoise()])
@pytest.mark.parametrize("parameter", [0.6, 5.0, 2.0**20 + 0.5])
def test_numbers_have_the_law_of_a_discrete_gaussian(parameter, source):
    drawn = discrete_gaussian(parameter, 40_000, source)
    if parameter < 100:  # every value's probability, by chi squared
        edges = math.ceil(3 * parameter)
        expected = law(parameter)[400 - edges : 401 + edges]
        counts = np.array([(drawn == y).sum() for y in range(-edges, edges + 1)])
        rest = [40_000 - counts.sum()], [40_000 * (1 - expected.sum())]
        observed = np.append(counts, rest[0])
        found = stats.chisquare(observed, np.append(40_000 * expected, rest[1])).pvalue
    else:  # as a Gaussian that was rounded, far finer than a sample can tell
        found = stats.kstest(drawn / parameter, "norm").pvalue
    assert found > 1e-6


def test_the_low_digits_of_a_number_are_as_random_as_the_high_ones():
    drawn = discrete_gaussian(1e6, 64_000, np.random.default_rng(0))
    assert stats.chisquare(np.bincount(drawn % 16, minlength=16)).pvalue > 1e-6


def test_the_sum_of_shares_differs_from_a_discrete_gaussian_by_no_more_than_is_said():
    # shares so small that the difference is to be seen
    for parameter in (0.5, 0.6, 0.7):
        one, total = law(parameter), law(parameter)
        for summed in range(2, 6):
            total = np.convolve(total, one, mode="same")
            whole = law(parameter * math.sqrt(summed))
            inside = slice(392, 409)
            found = np.abs(np.log(total[inside] / whole[inside])).max()
            bound = 10 * (summed - 1) * math.exp(-((math.pi * parameter) ** 2))
            assert 1e-9 < found <= bound


def test_a_discrete_gaussian_is_a_gaussian_seen_through_a_discrete_gaussian():
    # as in the module's third step, with r so small that η is to be seen
    for r in (0.5, 0.7, 1.0):
        whole, outputs = 2.0, np.linspace(-16, 16, 3_201)
        through = np.exp(-((np.arange(-40, 41)[:, None] - outputs) ** 2) / (2 * r**2))
        through /= through.sum(axis=0)
        seen = through @ stats.norm.pdf(outputs, scale=math.sqrt(whole**2 - r**2)) * 1e-2
        exact = law(whole, reach=40)
        found = np.abs(np.log(seen[32:49] / exact[32:49])).max()
        eta = 3 * math.exp(-2 * (math.pi * r) ** 2)
        assert found <= -2 * math.log1p(-eta) + 1e-9


def test_what_is_left_out_of_the_ledger_is_nothing():
    coarse = replace(SHARED, noise_multiplier=0.5, clips=10**7)
    for shared in (SHARED, coarse, replace(SHARED, numbers=10**7)):
        assert 2 * 10_000 * shared.divergence(shared.clients) < 1e-200


@pytest.mark.parametrize("noise", [0.7, 1.5, 4.0])
def test_the_ledger_says_what_an_independent_accountant_says_of_the_integers(noise):
    """dp-accounting's discrete Gaussian, of integers that a clip moves by 32 units."""
    moved, r = 32, 8.0
    loss = privacy_loss_distribution.from_discrete_gaussian_mechanism(
        math.sqrt((noise * moved) ** 2 + r**2), moved, value_discretization_interval=1e-4
    )
    theirs = loss.get_epsilon_for_delta(1e-5)
    for accountant in ("prv", "rdp"):
        ours = Ledger().spend(noise, 1.0, 1).epsilon(1e-5, accountant)
        assert ours >= theirs - 2e-4  # theirs is rounded up, too
    assert Ledger().spend(noise, 1.0, 1).epsilon(1e-5, "prv") == pytest.approx(theirs, rel=0.08)


def test_integers_that_are_moved_by_a_clip_cost_no_more_than_the_gaussian():
    """The exact divergence of coarse integers, against the closed form of the Gaussian."""
    sensitivity, r = 12, 8.0
    for sigma in (1.0, 2.0):
        parameter = math.sqrt((sigma * sensitivity) ** 2 + r**2)
        without, with_clip = law(parameter), law(parameter, sensitivity)
        for epsilon in (0.1, 0.5, 1.0, 2.0):
            found = np.maximum(with_clip - math.exp(epsilon) * without, 0).sum()
            gaussian = stats.norm.cdf(0.5 / sigma - epsilon * sigma) - math.exp(
                epsilon
            ) * stats.norm.cdf(-0.5 / sigma - epsilon * sigma)
            assert found <= gaussian


@pytest.mark.parametrize("clips", [100, 1627, 50_000])
def test_rounding_moves_integers_by_no_more_than_the_sensitivity(clips):
    shared = replace(SHARED, clips=clips)
    draw = np.random.default_rng(clips)
    for scale in (1e-3, 1.0, 100.0):
        total = draw.normal(size=650) * scale
        clip = draw.normal(size=650)
        clip *= 0.5 / np.linalg.norm(clip)
        moved = shared.rounded(total + clip) - shared.rounded(total)
        assert np.linalg.norm(moved.astype(float)) <= shared.sensitivity
    # each number at the worst place for rounding: half a unit below and above
    halves = np.full(650, 0.5 + 1e-6) * shared.unit
    worst = shared.rounded(halves) - shared.rounded(halves - 2e-6 * shared.unit)
    assert np.linalg.norm(worst.astype(float)) == pytest.approx(math.sqrt(650))


def test_the_sum_of_what_clients_send_is_the_sum_of_gradients_and_noise_of_sigma_c():
    draw, clients = np.random.default_rng(0), 20
    totals = draw.normal(size=(clients, 20_000)) * 5
    shared = replace(SHARED, numbers=20_000)
    sent = [shared.noised(total, draw) for total in totals]
    opened = np.sum(sent, axis=0, dtype=np.uint32)
    noise = shared.meant(opened) - totals.sum(axis=0)
    assert noise.std() == pytest.approx(4.0 * 0.5, rel=0.02)
    assert stats.kstest(noise / 2.0, "norm").pvalue > 1e-6
    single = shared.meant(sent[0]) - totals[0]
    assert single.std() == pytest.approx(2.0 / math.sqrt(20), rel=0.02)


@pytest.mark.parametrize("clips", [100, 1627, 1_000_000])
@pytest.mark.parametrize("noise", [1.0, 50.0])
def test_every_clip_at_its_bound_and_much_noise_do_not_wrap(clips, noise):
    shared = replace(SHARED, clips=clips, noise_multiplier=noise, survivors=10)
    largest = (clips + 10 * noise * math.sqrt(2)) * 0.5
    for sign in (-1, 1):
        total = np.full(3, sign * largest)
        opened = shared.rounded(total).astype(np.uint32)
        np.testing.assert_allclose(shared.meant(opened), total, rtol=1e-4)


def test_more_survivors_than_were_needed_add_more_noise_and_too_coarse_a_grid_is_refused():
    ten = replace(SHARED, survivors=10)
    assert ten.share == pytest.approx(SHARED.share * math.sqrt(2))
    with pytest.raises(ConfigError, match=r"clips leave .* of 32 bits"):
        replace(SHARED, clips=2**31)
