"""Membership inference: the ratio's formula, leaks where a model overfits, none under strong DP."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn.functional import cross_entropy

from fnl.audit.claims import Mechanism
from fnl.audit.lira import (
    ShadowModels,
    likelihood_ratios,
    log_odds,
    membership_inference,
)
from fnl.audit.logits import logits_of
from fnl.audit.membership import auc
from fnl.audit.step_sensitivity import first_weights
from fnl.config import parse_config
from fnl.data.federated import prepare
from fnl.errors import ConfigError
from fnl.training.batched import noise
from fnl.training.client import LocalTraining


def test_log_odds_are_those_of_the_label():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 60.0, 0.0]])
    labels = torch.tensor([0, 1])
    found = log_odds(logits, labels)
    share = torch.softmax(logits[0].double(), 0)[0].item()
    assert found[0] == pytest.approx(np.log(share / (1 - share)))
    assert found[1] == pytest.approx(60 - np.log(2))  # where 1 - p is zero in float32


def test_the_ratio_is_of_two_gaussians_with_common_spread():
    member = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
    phi = np.array([[5.0, 1.0], [7.0, 4.0], [1.0, 6.0], [3.0, 3.0]])
    ratio = likelihood_ratios(np.array([[6.0, 2.0]]), ShadowModels(phi, member))
    # in: deviations ±1 around 6 and ±1 around 5, 2 degrees of freedom; out: ±1 around 2 and 2
    spread = (4 / 2 * (1 + 1 / 2)) ** 0.5
    expected = norm.logpdf([6, 2], [6, 5], spread) - norm.logpdf([6, 2], [2, 2], spread)
    np.testing.assert_allclose(ratio[0], expected)


def test_ratios_tell_members_of_simulated_models():
    generator = np.random.default_rng(0)
    member = generator.random((40, 300)) < 0.5
    phi = generator.normal(0, 3, 300) + 2.0 * member + generator.standard_normal((40, 300))
    shadows = ShadowModels(phi[:20], member[:20])
    scores = likelihood_ratios(phi[20:], shadows)
    found = auc(scores[member[20:]], scores[~member[20:]])
    best = norm.cdf(2**0.5)  # knowing each clip's own level
    assert best - 0.03 < found < best + 0.01
    raw = auc(phi[20:][member[20:]], phi[20:][~member[20:]])
    assert raw < found - 0.1  # a global threshold does not


@pytest.mark.parametrize(("epsilon", "low", "high"), [(np.inf, 0.65, 1.0), (0.5, 0.4, 0.6)])
def test_an_overfitted_client_leaks_and_a_private_one_does_not(audited, epsilon, low, high):
    config, federation = audited
    changes = {"training.optimizer": "adam", "run.rounds": 40, "data.clients": 1}
    config = parse_config(
        {
            **config.flat(),
            **changes,
            "coordination.candidates": 1,
            "coordination.selected": 1,
        }
    )
    result = membership_inference(
        config,
        prepare(config),
        mechanism=Mechanism.CORRECT,
        epsilon=epsilon,
        models=12,
        confidence=0.95,
    )
    assert low < result.auc < high
    assert result.lower_bound <= result.claimed_epsilon
    assert result.canaries == 6 * 80
    assert federation.classes == 10
    if np.isinf(epsilon):
        assert result.lower_bound > 0.1


def test_models_trained_as_one_batch_are_inferred_from_as_well(audited, monkeypatch):
    """Reproduction: audits trained clients one at a time, whatever a run does."""
    config, federation = audited
    config = parse_config({**config.flat(), "run.batched-clients": "4", "run.rounds": 3})
    attacked = {"mechanism": Mechanism.CORRECT, "epsilon": 0.5, "models": 6, "confidence": 0.95}
    right = membership_inference(config, federation, **attacked)
    alone = parse_config({**config.flat(), "run.batched-clients": "0"})
    assert right.auc == pytest.approx(membership_inference(alone, federation, **attacked).auc)
    monkeypatch.setattr(noise, "fill_normal", lambda parts, *_: [part.zero_() for part in parts])
    assert membership_inference(config, federation, **attacked).auc != right.auc


def test_a_client_with_a_handful_of_clips_is_refused(audited):
    config, _ = audited
    config = parse_config({**config.flat(), "data.clients": 40, "data.partitioner": "iid"})
    with pytest.raises(ConfigError, match="client 0 has 2 clips: membership inference needs 10"):
        membership_inference(
            config,
            prepare(config),
            mechanism=Mechanism.CORRECT,
            epsilon=1.0,
            models=4,
            confidence=0.95,
        )


def test_clips_whose_encoding_draws_are_inferred_as_they_are_evaluated(audited):
    """Reproduction: encoders of rates had nothing to draw from."""
    config, federation = audited
    config = parse_config({**config.flat(), "model.encoding": "rate", "run.rounds": 1})
    for partition in range(2):
        client = LocalTraining(config, federation, (1, partition))
        weights = first_weights(config, federation)
        logits = logits_of(client, weights)
        loss = float(cross_entropy(logits, client.labels))
        assert loss == pytest.approx(client.measure(weights).loss, rel=1e-5)
