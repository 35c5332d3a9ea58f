"""What a run claims about privacy is no more than what holds."""

from __future__ import annotations

import pytest

from fnl.config import Config, Scalar, parse_config
from fnl.data.federated import open_federation
from server.record.guarantee import _guarantee, outside_guarantee, privacy_warnings

PUBLIC: dict[str, Scalar] = {
    "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
}
RELEASE: dict[str, Scalar] = {"privacy.rate-release": "gaussian", "privacy.rate-epsilon": 1.0}


def guarantee(**flat: Scalar) -> dict[str, object]:
    return _guarantee(parse_config(flat))


@pytest.mark.parametrize(
    ("selection", "aggregation", "feeds_back"),
    [
        ("random", "fedavg", False),
        ("rate-difference", "fedavg", True),
        ("random", "rate-weighted", True),
        ("round-robin", "median", False),
        ("update-norm", "fedavg", False),
        ("loss", "krum", True),
    ],
)
def test_rates_that_steer_the_model_are_said_to(selection, aggregation, feeds_back):
    rules = {"coordination.selection": selection, "coordination.aggregation": aggregation}
    said = guarantee(**rules, **{"privacy.rate-release": "none"})
    assert ("outside the guarantee" in str(said["caveat"])) == feeds_back
    assert "number of clips" in str(said["caveat"])
    assert "which labels a client has (per-class rates)" in said["outside_guarantee"]


def test_a_fixed_noise_promises_no_budget():
    fixed = guarantee(**{"privacy.noise-multiplier": 1.0})
    assert "as reported per client" in str(fixed["guarantee"])
    assert "at most 8.0" in str(guarantee()["guarantee"])


def test_no_privacy_is_no_guarantee():
    assert guarantee(**{"privacy.mode": "none"})["guarantee"] == "none"


def test_released_rates_are_covered_and_nothing_else_that_is_not():
    said = guarantee(**RELEASE)
    assert "releases of firing rates" in str(said["guarantee"])
    assert "whose release is accounted" in str(said["caveat"])
    outside = outside_guarantee(parse_config(RELEASE))
    assert not any("rate" in name for name in outside)
    assert "training loss" in outside
    strict = outside_guarantee(parse_config({**RELEASE, "run.strict-privacy": True}))
    assert strict == ["number of clips"]


def test_a_release_of_rates_does_not_cover_a_selection_by_losses():
    said = guarantee(**RELEASE, **{"coordination.selection": "loss"})
    assert "follow loss_before, which are outside" in str(said["caveat"])
    assert "ε does not cover that path" in str(said["caveat"])


@pytest.mark.parametrize("mode", ["client", "both"])
def test_client_level_says_what_is_trusted_and_taken_as_public(mode):
    said = guarantee(**PUBLIC, **{"privacy.mode": mode})
    for words in ("server is trusted", "taken as public", "at most 8.0", "0.005)-DP"):
        assert words in str(said["client_level"])
    assert ("record" in str(said["unit"])) == (mode == "both")


def test_seeded_noise_is_said_to_be_for_simulation_only():
    assert "simulation only" in str(guarantee()["noise"])
    assert "not reproducible" in str(guarantee(**{"privacy.secure-noise": True})["noise"])


def warnings(small: dict[str, Scalar], **flat: Scalar) -> list[str]:
    config: Config = parse_config({**small, **flat})
    return privacy_warnings(config, open_federation(config))


def test_a_delta_that_would_allow_to_publish_a_clip_is_warned_of(small_config):
    delta = "privacy.delta"
    weak = warnings(small_config, **{delta: 1.3e-3})  # 80 clips a client
    assert "privacy.delta = 0.0013 is above 1/(10 n) for 4 of 4 clients" in weak[0]
    assert "with probability 0.1;" in weak[0]
    assert "probability 1;" in warnings(small_config, **{delta: 0.5})[0]
    for fine in (1.2e-3, 1e-4, 0.0):
        assert not any("1/(10 n)" in text for text in warnings(small_config, **{delta: fine}))
    both = {**PUBLIC, "privacy.mode": "client"}
    assert "1/(10 N)" in warnings(small_config, **both, **{"privacy.client-delta": 0.03})[0]
    assert warnings(small_config, **both) == []


def test_what_is_outside_is_said_in_the_log_as_well(small_config):
    assert "firing rates" in warnings(small_config)[0]
    assert "firing rates" not in warnings(small_config, **RELEASE)[0]
    assert warnings(small_config, **{"privacy.mode": "none"}) == []
