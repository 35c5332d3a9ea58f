"""What a run claims about privacy is no more than what holds."""

from __future__ import annotations

import pytest

from fnl.config import parse_config
from server.facts import _guarantee


@pytest.mark.parametrize(
    ("selection", "aggregation", "feeds_back"),
    [
        ("random", "fedavg", False),
        ("rate-difference", "fedavg", True),
        ("random", "rate-weighted", True),
        ("round-robin", "median", False),
        ("update-norm", "fedavg", False),
        ("loss", "krum", True),
        ("own:rule", "fedavg", True),
    ],
)
def test_rates_that_steer_the_model_are_said_to(selection, aggregation, feeds_back):
    flat = {"coordination.selection": selection, "coordination.aggregation": aggregation}
    guarantee = _guarantee(parse_config(flat))
    assert ("firing rates" in str(guarantee["caveat"])) == feeds_back
    assert "number of clips" in str(guarantee["caveat"])
    assert "which labels a client has (per-class rates)" in guarantee["outside_guarantee"]


def test_a_fixed_noise_promises_no_budget():
    fixed = _guarantee(parse_config({"privacy.noise-multiplier": 1.0}))
    assert "as reported per client" in str(fixed["guarantee"])
    assert "at most 8.0" in str(_guarantee(parse_config({}))["guarantee"])


def test_no_privacy_is_no_guarantee():
    assert _guarantee(parse_config({"privacy.mode": "none"}))["guarantee"] == "none"
