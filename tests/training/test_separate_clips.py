"""Layers under which clips meet are refused in private training, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fnl.errors import ConfigError
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from tests.training.small import sgd

PLAN = sgd(1, 1.0, 0.1)


def network(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), layer, nn.Linear(12, 5))


def trained(layer: nn.Module, mechanism: GaussianMechanism | None) -> None:
    clips, stream = torch.randn(6, 3, 4), torch.Generator()
    train(
        network(layer), clips, torch.arange(6) % 5, PLAN,
        batches=stream, mechanism=mechanism, noise=stream,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "instead"),
    [
        (nn.BatchNorm1d(12), "normalise each clip by itself"),
        (nn.Dropout(0.1), "fnl.snn.dropout.Dropout"),
        (nn.AlphaDropout(0.1), "fnl.snn.dropout.Dropout"),
        (nn.RReLU(), "fnl.snn.dropout.Dropout"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_that_mixes_clips_is_refused_in_private_training(layer, instead):
    with pytest.raises(ConfigError, match=f"layer '1': a {type(layer).__name__} .*{instead}"):
        trained(layer, GaussianMechanism(1.0, 1.0))
    trained(layer, None)


@pytest.mark.parametrize("layer", [nn.Dropout(0.0), nn.LayerNorm(12)], ids=str)
def test_others_are_not(layer):
    trained(layer, GaussianMechanism(1.0, 1.0))
