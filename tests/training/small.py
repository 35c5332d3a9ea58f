"""A small network of two layers, steps of SGD, and an augmentation that draws."""

from __future__ import annotations

import torch

from fnl.clip_draws import Draws
from fnl.config import ModelGroup, TrainingGroup
from fnl.randomness import Purpose
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.plan import TrainingPlan

STEPS, FEATURES, CLASSES = 8, 5, 3


def network(**model: object) -> SpikingNetwork:
    """Return it with the weights of seed 0, to be trained."""
    options = {"hidden": "10,8", "threshold": 0.5, **model}
    built = build_network(ModelGroup.model_validate(options), FEATURES, CLASSES)
    initialise(built, 0)
    return built.train()


def sgd(
    steps: int = 1, sample_rate: float = 1.0, learning_rate: float = 0.5, **options: float
) -> TrainingPlan:
    """Return steps of it, with further `options` of local training."""
    group = TrainingGroup.model_validate({"optimizer": "sgd", **options})
    return TrainingPlan(steps, sample_rate, learning_rate, group)


def noisier(features: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Add a draw of each clip's own."""
    return features + draws.uniform(Purpose.AUGMENTATION, 0, features.shape[1:])
