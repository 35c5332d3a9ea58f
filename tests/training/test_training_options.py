"""What a client's training may add to plain DP-SGD: decay, smoothing, augmentation, a schedule."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys, Draws
from fnl.config import TrainingGroup, parse_config
from fnl.errors import ConfigError
from fnl.randomness import Purpose
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan
from tests.training.small import sgd


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    features = torch.randn(12, 3, 4, generator=stream(1))
    return features, torch.arange(12) % 5


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


def plan(**options: float) -> TrainingPlan:
    return TrainingPlan(4, 1.0, 0.05, TrainingGroup(**options))


def test_decay_is_that_of_adamw_on_matrices_and_none_on_vectors(clips):
    ours = network()
    reference = copy.deepcopy(ours)
    train(ours, *clips, plan(weight_decay=0.3), batches=stream(2))
    matrix, vector = reference.parameters()
    groups = [{"params": [matrix], "weight_decay": 0.3}, {"params": [vector], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.05)
    for _ in range(4):
        adamw.zero_grad()
        F.cross_entropy(reference(clips[0]), clips[1]).backward()
        adamw.step()
    for own, theirs in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
def test_without_noise_and_bound_a_private_run_with_all_options_is_its_twin(clips, method):
    options = plan(weight_decay=0.3, label_smoothing=0.2)

    def trained(mechanism: GaussianMechanism | None) -> nn.Module:
        def augment(features: Tensor, draws: Draws) -> Tensor:
            return features + draws.uniform(Purpose.AUGMENTATION, 0, features.shape[1:])

        result = network()
        train(
            result, *clips, options, batches=stream(2), mechanism=mechanism, noise=stream(3),
            draws=DrawKeys.seeded(7), augment=augment,
        )  # fmt: skip
        return result

    private = trained(GaussianMechanism(0.0, 1e6, clipping_method=method))
    for own, twins in zip(private.parameters(), trained(None).parameters(), strict=True):
        torch.testing.assert_close(own, twins)


def test_augmentation_without_keys_is_refused(clips):
    with pytest.raises(ValueError, match="keys of what clips draw"):
        train(network(), *clips, plan(), batches=stream(2), augment=lambda features, _: features)


def test_fixed_mini_batches_are_the_steps(clips):
    features, labels = clips
    rows, result, expected = [[0, 3, 5], [], [7]], network(), network()
    train(result, *clips, plan(), batches=rows)
    optimizer = torch.optim.Adam(expected.parameters(), lr=plan().learning_rate)
    for held in rows:
        optimizer.zero_grad(set_to_none=False)  # no clips are a step of gradient zero
        loss = F.cross_entropy(expected(features[held]), labels[held], reduction="sum")
        (loss / (plan().sample_rate * len(labels))).backward()
        optimizer.step()
    for own, other in zip(result.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_smoothed_targets_are_what_the_loss_is_taken_of(clips):
    start = network()
    expected = F.cross_entropy(start(clips[0]), clips[1], label_smoothing=0.2).item()
    one = sgd(1, 1.0, 0.1, label_smoothing=0.2)
    assert train(network(), *clips, one, batches=stream(2)).loss == pytest.approx(expected)


def test_a_cosine_falls_from_the_full_rate_towards_zero():
    group = TrainingGroup(learning_rate=0.4, schedule="cosine")
    rates = [group.learning_rate_of(server_round, 4) for server_round in range(1, 5)]
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])
    assert TrainingGroup(learning_rate=0.4).learning_rate_of(3, 4) == 0.4


def test_augmentation_is_refused_for_other_features():
    with pytest.raises(ConfigError, match=r"training\.augmentation .* data\.features"):
        parse_config({"training.augmentation": True, "data.features": "mfcc"})
