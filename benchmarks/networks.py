"""The same spiking network three ways: stepped in time, stepped layer by layer, and ours."""

from __future__ import annotations

from itertools import pairwise

import snntorch
import torch
from snntorch import surrogate as snntorch_surrogate
from torch import Tensor, nn

from fnl.snn import surrogates
from fnl.snn.neurons.lif import LIF, LeakyReadout

BETA = 0.9
SLOPE = 25


def linear_layers(widths: tuple[int, ...]) -> list[nn.Linear]:
    """Return one linear layer between each two widths, the same for the same random state."""
    return [nn.Linear(a, b) for a, b in pairwise(widths)]


def _peer_neurons(count: int) -> list[snntorch.Leaky]:
    gradient = snntorch_surrogate.fast_sigmoid(slope=SLOPE)
    hidden = [snntorch.Leaky(beta=BETA, spike_grad=gradient) for _ in range(count - 1)]
    return [*hidden, snntorch.Leaky(beta=BETA, reset_mechanism="none")]


class _PeerNetwork(nn.Module):
    """Linear layers, each with snnTorch's neurons."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linear_layers(widths))
        self.leakies = _peer_neurons(len(widths) - 1)
        self.neurons = nn.ModuleList(self.leakies)


class SteppedNetwork(_PeerNetwork):
    """snnTorch as its tutorials write it: a loop over time, in it a loop over layers."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores [B, C], the mean membrane of the last layer, for [B, T, F]."""
        membranes = [neuron.reset_mem() for neuron in self.leakies]
        total = torch.zeros(())
        for t in range(clips.shape[1]):
            signal = clips[:, t]
            for i, (linear, neuron) in enumerate(zip(self.linears, self.leakies, strict=True)):
                signal, membranes[i] = neuron(linear(signal), membranes[i])
            total = total + membranes[-1]
        return total / clips.shape[1]


class LayerwiseNetwork(_PeerNetwork):
    """snnTorch layer by layer: one linear layer over [B, T, F], then its neuron over time."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores [B, C], the mean membrane of the last layer, for [B, T, F]."""
        signal = membranes = clips
        for linear, neuron in zip(self.linears, self.leakies, strict=True):
            current, membrane = linear(signal), neuron.reset_mem()
            spikes, kept = [], []
            for t in range(current.shape[1]):
                spike, membrane = neuron(current[:, t], membrane)
                spikes.append(spike)
                kept.append(membrane)
            signal, membranes = torch.stack(spikes, 1), torch.stack(kept, 1)
        return membranes.mean(1)


def our_network(widths: tuple[int, ...]) -> nn.Sequential:
    """Return the same network of our layers; [B, T, F] -> scores [B, C]."""
    *hidden, last = linear_layers(widths)
    readout = LeakyReadout(last.in_features, last.out_features, beta=BETA)
    readout.linear = last
    gradient = surrogates.fast_sigmoid(SLOPE)
    layers = [layer for linear in hidden for layer in (linear, LIF(BETA, surrogate=gradient))]
    return nn.Sequential(*layers, readout)
