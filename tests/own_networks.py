"""Networks as users write them, from [B, T, F] to logits, that know nothing of this project.

A builder takes the model's settings, the features of a step and the number of labels.
"""

from __future__ import annotations

import random

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.neurons.lif import LIF

HIDDEN = 10


class OverTime(nn.Module):
    """Any layer over channels and steps: [B, T, F] to the same."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Tutorial5(nn.Module):
    """snnTorch's tutorial 5: fully connected, with a time loop of one's own."""

    def __init__(self, inputs: int, classes: int, **neuron: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, HIDDEN)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.4, **neuron)
        self.fc2 = nn.Linear(HIDDEN, classes)
        self.lif2 = snn.Leaky(beta=0.8, threshold=0.4, **neuron)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        recorded = []
        for step in range(x.size(1)):
            spk1, mem1 = self.lif1(self.fc1(x[:, step]), mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            recorded.append(mem2)
        return torch.stack(recorded).mean(0)


class Tutorial6(nn.Module):
    """snnTorch's tutorial 6: convolutions in an `nn.Sequential` that keeps its hidden state."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        spiking = {"beta": 0.8, "threshold": 0.3, "init_hidden": True}
        self.net = nn.Sequential(
            nn.Conv1d(1, 4, 5), nn.MaxPool1d(2), snn.Leaky(**spiking),
            nn.Conv1d(4, 4, 3), nn.MaxPool1d(2), snn.Leaky(**spiking), nn.Flatten(),
            nn.Linear(4 * (((inputs - 4) // 2 - 2) // 2), classes),
            snn.Leaky(**spiking, output=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        recorded = [self.net(x[:, step, None])[1] for step in range(x.size(1))]
        return torch.stack(recorded).sum(0)


class Tutorial7(nn.Module):
    """snnTorch's tutorial 7: steps first, a convolution over features, the rate of the output."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv1d(1, 3, 3), snn.Leaky(beta=0.5, threshold=0.3)
        self.fc, self.lif2 = nn.Linear(3 * (inputs - 2), classes), snn.Leaky(0.9, threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, spikes = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for step in x.transpose(0, 1):  # [T, B, F]
            spk1, mem1 = self.lif1(self.conv(step.unsqueeze(1)), mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            spikes.append(spk2)
        return torch.stack(spikes).sum(0)


class OfNeurons(nn.Module):
    """A hidden layer of any of snnTorch's neurons, whose states are left to them."""

    def __init__(self, inputs: int, classes: int, neuron: nn.Module) -> None:
        super().__init__()
        self.fc, self.neuron, self.out = (
            nn.Linear(inputs, HIDDEN),
            neuron,
            nn.Linear(HIDDEN, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        spikes = [self.neuron(self.fc(step))[0] for step in x.unbind(1)]
        return self.out(torch.stack(spikes, 1)).mean(1)


class Skip(nn.Module):
    """Two layers of ours, all steps at once, and a way around the second."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.lif1, self.lif2 = LIF(0.9, 0.3), LIF(0.8, 0.3, learn_beta=True)
        self.out = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        one = self.lif1(self.first(x))
        return self.out((one + self.lif2(self.second(one))).mean(1))


class SpikingAttention(nn.Module):
    """Queries, keys and values of spikes, without softmax (Zhou et al. 2023, Spikformer)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(inputs, HIDDEN), nn.LayerNorm(HIDDEN)
        self.q, self.k, self.v = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.neurons = nn.ModuleList(snn.Leaky(0.5, threshold=0.2) for _ in range(4))
        self.out = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self._spikes(0, self.norm(self.embed(x)))
        q, k, v = (
            self._spikes(n, layer(embedded)) for n, layer in enumerate((self.q, self.k, self.v), 1)
        )
        return self.out((q @ k.transpose(1, 2) @ v * 0.1).mean(1))

    def _spikes(self, number: int, current: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(current[:, 0]), []
        for step in current.unbind(1):
            spike, mem = self.neurons[number](step, mem)
            spikes.append(spike)
        return torch.stack(spikes, 1)


class Gru(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(inputs, HIDDEN, batch_first=True), nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][:, -1])


class SpikingJelly(nn.Module):
    """Several steps a call, steps first, and a membrane that the neuron keeps."""

    def __init__(self, inputs: int, classes: int) -> None:
        from spikingjelly.activation_based import layer, neuron

        super().__init__()
        self.fc = layer.Linear(inputs, HIDDEN, step_mode="m")
        self.lif = neuron.LIFNode(tau=2.0, v_threshold=0.3, step_mode="m", store_v_seq=True)
        self.out = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lif(self.fc(x.transpose(0, 1))).mean(0))


class OnCurrent(nn.Module):
    """A dense network in one step, to put other layers in front of."""

    def __init__(self, classes: int, *before: nn.Module, features: int) -> None:
        super().__init__()
        self.before, self.out = nn.Sequential(*before), nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.before(x)).mean(1))


def tutorial5(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Tutorial5(inputs, classes)


def learned(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Tutorial5(inputs, classes, learn_beta=True, learn_threshold=True)


def tutorial6(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Tutorial6(inputs, classes)


def tutorial7(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Tutorial7(inputs, classes)


def synaptic(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return OfNeurons(inputs, classes, snn.Synaptic(alpha=0.6, beta=0.8, threshold=0.3))


def rleaky(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    neuron = snn.RLeaky(beta=0.8, linear_features=HIDDEN, threshold=0.3)
    return OfNeurons(inputs, classes, neuron)


def alpha(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return OfNeurons(inputs, classes, snn.Alpha(alpha=0.8, beta=0.7, threshold=0.05))


def lapicque(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return OfNeurons(inputs, classes, snn.Lapicque(beta=0.8, threshold=0.1))


def skip(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Skip(inputs, classes)


def attention(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return SpikingAttention(inputs, classes)


def gru(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Gru(inputs, classes)


def spikingjelly(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return SpikingJelly(inputs, classes)


class Drawing(Tutorial5):
    """Draws a fixed projection, a start of its own, and a number when it is built."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        self.register_buffer("projection", torch.randn(inputs, inputs) / inputs**0.5)
        self.start = nn.Parameter(torch.from_numpy(np.random.randn(inputs)).float())  # noqa: NPY002
        self.gain = random.random() + 0.5  # noqa: S311

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ self.projection * self.gain + self.start)


def drawing(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    return Drawing(inputs, classes)


def dropping(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    dropout = nn.Dropout(0.3)
    return nn.Sequential(dropout, Tutorial5(inputs, classes))


NETWORKS = {
    "tutorial5": {"lif1", "lif2"},
    "learned": {"lif1", "lif2"},
    "tutorial6": {"net.2", "net.5", "net.8"},
    "tutorial7": {"lif1", "lif2"},
    "synaptic": {"neuron"},
    "rleaky": {"neuron"},
    "alpha": {"neuron"},
    "lapicque": {"neuron"},
    "skip": {"lif1", "lif2"},
    "attention": {"neurons.0", "neurons.1", "neurons.2", "neurons.3"},
    "gru": set[str](),
    "spikingjelly": {"lif"},
}
"""Builders in this file, and their spiking layers."""
