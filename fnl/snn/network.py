"""Spiking networks, executed layer by layer with time inside each layer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.randomness import Purpose, torch_stream
from fnl.snn.neurons import LIF, LeakyReadout
from fnl.snn.surrogates import SURROGATES, Surrogate


class SpikingNetwork(nn.Module):
    """Feedforward spiking network with a membrane read-out.

    Each hidden layer is Linear → (LayerNorm over its neurons within one step) → LIF. The read-out
    is a leaky integrator without reset; the logits are its membrane, averaged over time.

    Clips never meet in a layer, so per-clip gradients are well defined.

    Attributes:
        linear: the synapses of each hidden layer.
        neuron: the spiking neurons of each hidden layer.
        readout: the read-out's synapses and integrator.
    """

    def __init__(self, model: ModelGroup, inputs: int, classes: int) -> None:
        super().__init__()
        sizes = (inputs, *model.hidden_sizes)
        normalised = model.normalisation == "layer"
        self.linear = nn.ModuleList(
            nn.Linear(fan_in, fan_out, bias=not normalised) for fan_in, fan_out in pairwise(sizes)
        )
        self.norm = nn.ModuleList(
            nn.LayerNorm(size) if normalised else nn.Identity() for size in sizes[1:]
        )
        self.neuron = nn.ModuleList(
            LIF(model.beta, model.threshold, surrogate=surrogate_of(model)) for _ in sizes[1:]
        )
        self.readout = LeakyReadout(sizes[-1], classes, model.beta)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of inputs [B, T, F]."""
        signal = inputs
        for linear, norm, neuron in zip(self.linear, self.norm, self.neuron, strict=True):
            signal = neuron(norm(linear(signal)))
        return self.readout(signal)

    @torch.no_grad()
    def observe(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits [B, C] and, for each spiking layer, spikes per clip and neuron [B, F_l].

        The counts come out of the same pass; no gradient.
        """
        signal, counts = inputs, []
        for linear, norm, neuron in zip(self.linear, self.norm, self.neuron, strict=True):
            signal, statistics = neuron.observe(norm(linear(signal)))  # type: ignore[operator]  # an LIF
            counts.append(statistics.spike_counts)
        return self.readout(signal), counts

    def synapses(self) -> list[Tensor]:
        """Return the weight matrices [F_out, F_in] from the inputs to the read-out."""
        layers = (*self.linear, self.readout.linear)
        return [layer.weight for layer in layers if isinstance(layer, nn.Linear)]


def surrogate_of(model: ModelGroup) -> Surrogate:
    """Return the surrogate gradient that `model` names."""
    return SURROGATES[model.surrogate.replace("-", "_")](model.surrogate_slope)


def build_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return the network that `model` describes, for [B, T, `inputs`] and `classes` labels."""
    return SpikingNetwork(model, inputs, classes)


def initialise(network: nn.Module, seed: int) -> None:
    """Draw the initial weights in place from the run's own stream.

    Matrices are uniform in ±1/√fan_in (PyTorch's default for a linear layer), biases zero,
    LayerNorm gains 0.5: at threshold 1 a gain of 1 would start the network near saturation.
    """
    generator = torch_stream(seed, Purpose.INITIAL_WEIGHTS)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.weight.fill_(0.5)
                module.bias.zero_()
