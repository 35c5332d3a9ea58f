"""How noisy rates are, as the server knows it, against first order and against real releases."""

from __future__ import annotations

import numpy as np
import pytest

from fnl.config import parse_config
from fnl.config.rules import NOISE_KNOWN
from fnl.metrics.sensitivity import ClipProjections, first_order_shift
from fnl.privacy.rate_release import release
from server.known_noise import KnownNoise
from server.selection import SELECTION_RULES
from server.selection.estimate import NOISE_OF

RATES = {"rate_noise": 0.02, "noise_multiplier": 3.0, "steps": 4, "sample_rate": 0.5}


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_noise_in_rates_is_that_of_the_first_order_prediction(momentum, report):
    config = parse_config(
        {
            "training.optimizer": "sgd",
            "training.learning-rate": 0.3,
            "training.momentum": momentum,
            "privacy.clip-norm": 2.0,
            "coordination.rate-gradient": 0.7,
        }
    )
    nothing = ClipProjections(np.zeros((10, 1)), np.zeros((10, 1)), rate_gradient_norm=0.7)
    expected = first_order_shift(
        nothing, clip_norm=2.0, clipping="flat", noise_multiplier=3.0, expected_batch=5.0,
        learning_rate=0.3, steps=4, momentum=momentum,
    )  # fmt: skip
    noise = KnownNoise.of(config, 1)
    assert noise.in_rate(report(0, **RATES)) == pytest.approx(expected.standard_deviation)
    assert noise.in_rate(report(0)) == 0  # its report says of no noise


def test_noise_of_the_networks_rate_is_that_of_a_real_release(report):
    config = parse_config({"model.hidden": "30,10"})
    draw = np.random.default_rng(0)
    layers = [
        release(
            np.full((10, 2), 0.1), clip_norm=0.5, noise_multiplier=2.0, num_clips=10, generator=draw
        )
        for _ in range(4000)
    ]
    network = np.average(layers, axis=1, weights=[30, 10])
    known = KnownNoise.of(config, 1).in_release(report(0, rate_noise=2.0 * 0.5 / 10))
    assert known == pytest.approx(network.std(), rel=0.04)


def test_the_rules_whose_noise_is_known_are_those_that_the_configuration_takes():
    assert set(NOISE_OF) == set(NOISE_KNOWN)


@pytest.mark.parametrize("rule", sorted(set(NOISE_OF) - {"update-norm"}))
def test_noise_of_scores_of_clients_that_do_not_differ_is_their_spread(rule, report, in_round):
    """Rates are released, and every class has its own noise."""
    draw, classes, sd = np.random.default_rng(1), 6, 0.02

    def rates(kind: str) -> dict[str, object]:
        by_class = draw.normal(0.05, sd, classes)
        return {f"class_rates_{kind}": by_class, f"firing_rate_{kind}": float(draw.normal(0.3, sd))}

    reports = [
        report(p % 20, rate_noise=sd, **rates("before"), **rates("after")) for p in range(3000)
    ]
    scores = SELECTION_RULES[rule](reports, in_round(reports[:20]))
    known = [NOISE_OF[rule](one, KnownNoise()) for one in reports]
    # around a change that is not there, a variance is guessed from the change that is seen
    assert np.mean(known) == pytest.approx(np.var(scores), rel=0.5 if "difference" in rule else 0.1)


def test_debiased_differences_of_nothing_are_zero_on_average_whoever_is_noisier(report, in_round):
    draw, classes = np.random.default_rng(2), 5
    scores: dict[float, dict[str, float]] = {}
    for sd in (0.01, 0.05):
        reports = [
            report(
                p % 20, rate_noise=sd,
                class_rates_before=draw.normal(0.1, sd, classes),
                class_rates_after=draw.normal(0.1, sd, classes),
            )
            for p in range(3000)
        ]  # fmt: skip
        scores[sd] = {
            rule: float(np.mean(SELECTION_RULES[rule](reports, in_round(reports[:20]))))
            for rule in ("rate-difference", "rate-difference-debiased")
        }
    assert scores[0.05]["rate-difference"] > 4 * scores[0.01]["rate-difference"] > 0.2
    for sd, found in scores.items():
        assert found["rate-difference-debiased"] == pytest.approx(
            0, abs=5 * sd * classes / 3000**0.5
        )
