"""Seeded noise never reaches a deployment."""

import pytest

from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.runtime.noise_check import check_noise

PUBLIC = {"coordination.selection": "random", "coordination.aggregation": "fedavg"}


@pytest.mark.parametrize("mode", ["record", "client", "both"])
def test_a_deployment_with_seeded_noise_is_refused(mode):
    config = parse_config({**PUBLIC, "privacy.mode": mode})
    with pytest.raises(ConfigError, match=r"privacy\.secure-noise = false .* set") as refusal:
        check_noise(config, "flower-deployment")
    assert "\n" not in str(refusal.value)
    check_noise(parse_config({**config.flat(), "privacy.secure-noise": True}), "flower-deployment")


@pytest.mark.parametrize("engine", ["in-process", "flower-simulation"])
def test_a_simulation_may_use_either(engine):
    for secure in (False, True):
        check_noise(parse_config({"privacy.secure-noise": secure}), engine)


def test_without_privacy_there_is_no_noise_to_ask_of():
    check_noise(parse_config({"privacy.mode": "none"}), "flower-deployment")
