"""A small network of two layers, and an augmentation that draws."""

from __future__ import annotations

import torch

from fnl.clip_draws import Draws
from fnl.config import ModelGroup
from fnl.randomness import Purpose
from fnl.snn.network import SpikingNetwork, build_network, initialise

STEPS, FEATURES, CLASSES = 8, 5, 3


def network(**model: object) -> SpikingNetwork:
    """Return it with the weights of seed 0, to be trained."""
    options = {"hidden": "10,8", "threshold": 0.5, **model}
    built = build_network(ModelGroup.model_validate(options), FEATURES, CLASSES)
    initialise(built, 0)
    return built.train()


def noisier(features: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Add a draw of each clip's own."""
    return features + draws.uniform(Purpose.AUGMENTATION, 0, features.shape[1:])
