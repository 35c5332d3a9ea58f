"""Seeded noise never reaches a deployment, whoever adds it."""

import pytest

from fnl.config import Scalar, parse_config
from fnl.errors import ConfigError
from fnl.runtime.deployment import check_deployable

DEVICES: dict[str, Scalar] = {
    "data.corpus": "device", "coordination.selection": "random",
    "coordination.aggregation": "fedavg",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["record", "client", "both"])
def test_a_deployment_with_seeded_noise_is_refused(mode):
    flat = {**DEVICES, "privacy.mode": mode}
    with pytest.raises(ConfigError, match=r"privacy\.secure-noise = false .* needs") as refusal:
        check_deployable(parse_config(flat))
    assert "\n" not in str(refusal.value)
    check_deployable(parse_config({**flat, "privacy.secure-noise": True}))


def test_without_privacy_there_is_no_noise_to_ask_of():
    check_deployable(parse_config({**DEVICES, "privacy.mode": "none"}))
