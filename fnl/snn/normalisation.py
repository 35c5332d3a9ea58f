"""Normalisations of a layer's current that keep clips, and steps of time, apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.config import ModelGroup


class StepGroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) of the neurons of one step: [B, T, F] -> [B, T, F].

    The F neurons of a step fall into groups of neighbours; each group is normalised to mean 0 and
    variance 1 by itself, then scaled and shifted neuron by neuron. `nn.GroupNorm` would average
    over time as well, and so look ahead.

    Args:
        groups: number of groups; divides `features`.
        features: F.
    """

    def __init__(self, groups: int, features: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, current: Tensor) -> Tensor:
        """Return the normalised current."""
        size = current.shape[-1] // self.groups
        grouped = current.unflatten(-1, (self.groups, size))
        return F.layer_norm(grouped, (size,)).flatten(-2) * self.weight + self.bias


def build_normalisation(model: ModelGroup, features: int) -> nn.Module:
    """Return the normalisation that `model` names, of [B, T, `features`]."""
    if model.normalisation == "layer":
        return nn.LayerNorm(features)
    if model.normalisation == "group":
        return StepGroupNorm(model.groups, features)
    return nn.Identity()
