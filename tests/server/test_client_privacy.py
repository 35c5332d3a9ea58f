"""Client-level privacy: bound, noise, shares and ledger, against Flower's and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.supercore.differential_privacy import compute_clip_model_update, compute_stdv
from opacus.accountants import RDPAccountant
from scipy import stats

from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.privacy.client_level import (
    client_delta,
    clipped_update,
    epsilon_client,
    planned_noise,
    private_aggregate,
)
from fnl.privacy.ledger import RDP_ORDERS
from fnl.runtime.releases import Releases
from fnl.schedule import candidates
from fnl.weights import Weights, weighted_mean
from server.client_privacy import ClientPrivacy

CLIENT = {
    "privacy.mode": "client", "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
}  # fmt: skip


def model(seed: int, scale: float = 1.0, size: int = 300) -> Weights:
    generator = np.random.default_rng(seed)
    return {
        "a": (scale * generator.normal(size=(size, 3))).astype(np.float32),
        "b": (scale * generator.normal(size=size)).astype(np.float32),
    }


def flat(weights) -> np.ndarray:
    return np.concatenate([np.asarray(weights[name], np.float64).ravel() for name in ("a", "b")])


def aggregate(before, models, shares, *, clip_norm=1.0, noise=0.0, seed=0) -> Weights:
    return private_aggregate(
        before, models, np.array(shares), clip_norm=clip_norm, noise_multiplier=noise,
        largest_share=max(shares, default=1.0), generator=np.random.default_rng(seed),
    )  # fmt: skip


@pytest.mark.parametrize("clip_norm", [0.1, 5.0, 1e6])
def test_clipping_is_flowers(clip_norm):
    before, after = model(0), model(1)
    theirs = [after["a"].copy(), after["b"].copy()]
    compute_clip_model_update(theirs, [before["a"], before["b"]], clip_norm)
    ours = clipped_update(before, after, clip_norm)
    for name, value in zip(("a", "b"), theirs, strict=True):
        np.testing.assert_allclose(before[name] + ours[name], value, atol=1e-4)
    norm = np.linalg.norm(flat(after) - flat(before))
    assert np.linalg.norm(flat(ours)) == pytest.approx(min(clip_norm, norm), rel=1e-6)


def test_a_client_that_did_not_move_is_no_division_by_zero():
    before = model(0)
    assert not flat(clipped_update(before, before, 1.0)).any()


def test_without_noise_and_bound_it_is_the_weighted_mean():
    before, models, shares = model(0), [model(k) for k in (1, 2, 3)], [0.5, 0.3, 0.2]
    expected = weighted_mean(models, shares)
    got = aggregate(before, models, shares, clip_norm=1e9)
    np.testing.assert_allclose(flat(got), flat(expected), atol=1e-5)


def test_no_client_moves_the_aggregate_further_than_its_share_of_the_bound():
    before, shares = model(0), [0.6, 0.4]
    quiet = aggregate(before, [model(1), before], shares, clip_norm=0.7)
    loud = aggregate(before, [model(1), model(9, scale=1e4)], shares, clip_norm=0.7)
    moved = np.linalg.norm(flat(loud) - flat(quiet))
    assert moved == pytest.approx(0.4 * 0.7, rel=1e-3)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.7, 0.3], [0.1, 0.2]])
def test_noise_has_the_deviation_of_the_largest_share(shares):
    before = model(0)
    got = aggregate(before, [before, before], shares, clip_norm=2.0, noise=1.5, seed=3)
    noise = flat(got) - flat(before)
    std = 1.5 * 2.0 * max(shares)
    if shares == [0.5, 0.5]:  # equal shares: Flower's own formula
        assert std == compute_stdv(1.5, 2.0, 2)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], len(noise))
    assert low < (noise**2).sum() / std**2 < high
    assert stats.kstest(noise / std, "norm").pvalue > 1e-3


def test_an_update_that_is_not_finite_is_refused():
    broken = model(1)
    broken["b"][3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        aggregate(model(0), [broken], [1.0])


@pytest.mark.parametrize(("models", "shares"), [([], [1.0]), ([1, 2], [1.0]), ([1], [-1.0])])
def test_shares_that_fit_no_models_are_refused(models, shares):
    with pytest.raises(ValueError, match="do not make an aggregate"):
        aggregate(model(0), [model(k) for k in models], shares)


def test_a_share_above_the_one_that_noise_is_set_by_is_refused():
    before, options = model(0), {"clip_norm": 1.0, "noise_multiplier": 1.0}
    with pytest.raises(ValueError, match="do not make an aggregate"):
        private_aggregate(
            before, [model(1)], np.array([0.3]), largest_share=0.25, **options,
            generator=np.random.default_rng(0),
        )  # fmt: skip


def test_noise_differs_between_rounds_and_comes_again_for_the_same(tmp_path):
    config = parse_config({**CLIENT, "privacy.client-noise-multiplier": 1.0})
    before, shares = model(0), np.array([1.0])
    privacy = ClientPrivacy(config, Releases(tmp_path))

    def noise(server_round: int) -> np.ndarray:
        return flat(
            privacy.privatise(server_round, before, [before], shares, largest_share=1.0)
        ) - flat(before)

    assert np.array_equal(noise(1), noise(1))
    assert abs(np.corrcoef(noise(1), noise(2))[0, 1]) < 5 / np.sqrt(len(noise(1)))
    secure = parse_config({**config.flat(), "privacy.secure-noise": True})
    fresh = ClientPrivacy(secure, Releases(tmp_path))
    drawn = [fresh.privatise(1, before, [before], shares, largest_share=1.0) for _ in range(2)]
    assert not np.array_equal(flat(drawn[0]), flat(drawn[1]))


def test_epsilon_counts_every_round_a_client_was_asked_in():
    config = parse_config(
        {**CLIENT, "run.rounds": 12, "privacy.client-delta": 0.01, "privacy.accountant": "rdp"}
    )
    z = planned_noise(config)

    def after(server_round: int) -> float:
        return epsilon_client(config, [(number, z) for number in range(1, server_round + 1)])

    assert 0.99 * 8 <= after(12) <= 8
    assert after(0) == 0.0
    for server_round in (1, 5, 12):
        accountants = [RDPAccountant() for _ in range(20)]
        for earlier in range(1, server_round + 1):
            for partition in candidates(0, earlier, 20, 12):  # selected or not
                accountants[partition].step(noise_multiplier=z, sample_rate=1.0)
        spent = [
            a.get_privacy_spent(delta=0.01, alphas=RDP_ORDERS)[0] for a in accountants if a.history
        ]
        assert after(server_round) == pytest.approx(max(spent), rel=1e-9)


def test_delta_comes_from_the_number_of_clients_where_none_is_given():
    assert client_delta(parse_config(CLIENT)) == pytest.approx(1 / 200)
    assert client_delta(parse_config({**CLIENT, "privacy.client-delta": 0.01})) == 0.01


def test_a_budget_that_no_noise_keeps_is_named_by_its_own_key():
    config = parse_config({**CLIENT, "privacy.client-epsilon": 1e-7})
    named = r"^privacy\.client-epsilon = 1e-07 .* privacy\.client-delta = 0\.005"
    with pytest.raises(ConfigError, match=named):
        planned_noise(config)
