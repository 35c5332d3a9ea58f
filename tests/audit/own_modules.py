"""Modules of a user's own under which clips meet, and some under which they do not."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.encoders import Encoder
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.lif import LIF


class BatchStatistics(nn.Module):
    """Subtracts the mean over the mini-batch."""

    def forward(self, signal: Tensor) -> Tensor:
        return signal - signal.mean(0, keepdim=True)


class MeanOfBatch(Encoder):
    def forward(self, features: Tensor) -> Tensor:
        return features - features.mean(0, keepdim=True)


class NoisyByPlace(nn.Module):
    """Adds noise from PyTorch's own generator."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, current: Tensor) -> Tensor:
        return self.neuron(current + torch.randn_like(current))


class MeetInEvaluation(nn.Module):
    """Whose clips meet only where rates are measured."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, current: Tensor) -> Tensor:
        meet = current if self.training else current - 2 * current.roll(1, 0)
        return self.neuron(meet)


def _network(model: ModelGroup, inputs: int, classes: int, *between: nn.Module) -> SpikingNetwork:
    maps = [
        nn.Sequential(*between, nn.Linear(a, b)) for a, b in pairwise((inputs, *model.hidden_sizes))
    ]
    return SpikingNetwork(model, maps, model.hidden_sizes, classes)


def plain_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    return _network(model, inputs, classes)


def mixing_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    return _network(model, inputs, classes, BatchStatistics())


def plain_neuron(model: ModelGroup, features: int) -> nn.Module:
    return LIF.build(model, features)


def noisy_neuron(model: ModelGroup, features: int) -> nn.Module:
    return NoisyByPlace(LIF.build(model, features))


def neuron_meeting_in_evaluation(model: ModelGroup, features: int) -> nn.Module:
    return MeetInEvaluation(LIF.build(model, features))


def mixing_encoding(model: ModelGroup) -> Encoder:
    return MeanOfBatch()


def plain_encoding(model: ModelGroup) -> Encoder:
    return Encoder()
