"""Noise correlated over rounds: its law, its sensitivity, and how much of it cancels."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from scipy import stats
from scipy.linalg import sqrtm, toeplitz

from fnl.config import Config, parse_config
from fnl.errors import ConfigError
from fnl.privacy.banded_noise import BandedNoise, band
from fnl.privacy.client_level import client_delta, epsilon_client, planned_noise
from fnl.runtime.releases import Releases
from fnl.schedule import asked_in
from server.client_privacy import ClientPrivacy

FLAT = {
    "privacy.mode": "client", "coordination.selection": "random", "run.rounds": 30,
    "coordination.aggregation": "fedavg", "coordination.schedule": "balanced",
    "coordination.candidates": 4, "coordination.selected": 4, "privacy.client-bands": 5,
}  # fmt: skip


def configured(**keys: object) -> Config:
    return parse_config({**FLAT, **keys})


def matrix(bands: int, rounds: int) -> np.ndarray:
    """Return C, lower triangular."""
    column = np.zeros(rounds)
    column[: min(bands, rounds)] = band(bands)[:rounds]
    return toeplitz(column, np.zeros(rounds))


def error(factor: np.ndarray) -> float:
    """Return the root mean square of the noise in all prefix sums."""
    rounds = len(factor)
    return float(np.linalg.norm(np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(factor)))


def test_all_bands_are_the_square_root_of_summing():
    rounds = 40
    root = np.real(np.asarray(sqrtm(np.tril(np.ones((rounds, rounds))) + 0.0)))
    ours = matrix(rounds, rounds)
    np.testing.assert_allclose(ours / ours[0, 0], root, atol=1e-6)


@pytest.mark.parametrize("rounds", [16, 256, 1024])
def test_the_largest_error_of_the_square_root_is_landau_s_constant(rounds):
    """G_{n-1} = Σ (binom(2k, k)/4^k)², by Watson's asymptotics of 1930."""
    factor = matrix(rounds, rounds)
    rows = np.linalg.norm(np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(factor), axis=1)
    landau = (np.log(rounds - 0.25) + np.euler_gamma + 4 * np.log(2)) / np.pi
    assert rows.max() == pytest.approx(landau, rel=1e-4)


@pytest.mark.parametrize(("bands", "least"), [(2, 1.2), (5, 1.7), (10, 1.9)])
def test_less_of_it_is_left_in_the_models(bands, least):
    rounds = 30
    assert error(np.eye(rounds)) / error(matrix(bands, rounds)) > least


@pytest.mark.parametrize("bands", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_a_client_moves_what_is_hidden_by_no_more_than_the_root_of_its_rounds(bands, seed):
    config = configured(**{"privacy.client-bands": bands, "run.seed": seed})
    factor, generator = matrix(bands, 30), np.random.default_rng(seed)
    for client in range(20):
        asked = [client in asked_in(config, number) for number in range(1, 31)]
        for _ in range(20):
            part = generator.normal(size=(30, 3)) * np.array(asked)[:, None]
            part[asked] /= np.linalg.norm(part[asked], axis=1, keepdims=True)
            assert np.linalg.norm(factor @ part) <= np.sqrt(sum(asked)) * (1 + 1e-9)
        worst = np.zeros((30, 1))
        worst[asked] = 1.0  # the same direction in all rounds, which more bands would add up
        assert np.linalg.norm(factor @ worst) <= np.sqrt(sum(asked)) * (1 + 1e-9)


def test_the_ledger_is_that_of_one_gaussian_mechanism_of_that_sensitivity():
    config = configured()
    z = planned_noise(config)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.GaussianDpEvent(z / np.sqrt(6)))  # 30 rounds · 4 / 20
    found = epsilon_client(config, [(number, z) for number in range(1, 31)])
    assert found == pytest.approx(accountant.get_epsilon(client_delta(config)), abs=5e-3)


def noises(config: Config, path, rounds: range) -> np.ndarray:
    """Return the noise of each round, as the server adds it, in its unit, [rounds, numbers]."""
    privacy, shares = ClientPrivacy(config, Releases(path)), np.array([0.5, 0.25])
    before = {"a": np.zeros((40, 50), np.float32), "b": np.zeros(1000, np.float32)}
    drawn = [
        privacy.privatise(number, before, [before, before], shares, largest_share=0.5)
        for number in rounds
    ]
    unit = privacy.noise_multiplier * config.privacy.client_clip_norm * 0.5
    return np.stack([np.concatenate([w["a"].ravel(), w["b"]]) for w in drawn]) / unit


def test_undone_the_noise_is_independent_and_of_the_size_that_is_booked(tmp_path):
    config = configured()
    found = noises(config, tmp_path, range(1, 31))
    white = matrix(5, 30) @ found.astype(float)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], white.size)
    assert low < (white**2).sum() < high
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(white) - np.eye(30)
    assert np.abs(correlation).max() < 5 / np.sqrt(white.shape[1])
    sums = np.cumsum(found, axis=0)
    independent = error(np.eye(30)) * np.sqrt(white.shape[1])
    assert np.linalg.norm(sums) == pytest.approx(
        independent * error(matrix(5, 30)) / error(np.eye(30)), rel=0.02
    )


def test_a_run_that_goes_on_or_does_a_round_again_draws_the_same(tmp_path):
    config = configured()
    whole = noises(config, tmp_path, range(1, 13))
    assert np.array_equal(noises(config, tmp_path, range(8, 13)), whole[7:])
    noise = BandedNoise(config)
    drawn = [noise.draw(number, 0, (7,)) for number in (3, 4, 4, 2, 3)]
    assert np.array_equal(drawn[1], drawn[2])
    assert np.array_equal(drawn[0], drawn[4])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"privacy.mode": "record"}, "is about the server's noise"),
        ({"coordination.schedule": "random"}, "set coordination.schedule = 'balanced'"),
        ({"privacy.client-bands": 6}, "more than the 5 rounds"),
        ({"privacy.secure-noise": True}, "which privacy.secure-noise = true has forgotten"),
    ],
)
def test_what_bands_need_is_asked_for(keys, message):
    with pytest.raises(ConfigError, match=message):
        configured(**keys)
