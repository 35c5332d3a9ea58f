"""The first weights of a network, from the run's own stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.randomness import Purpose, torch_stream
from fnl.snn.networks.stack import SpikingNetwork
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.normalisation import StepGroupNorm

NORMALISATION_GAIN = 0.5
"""At threshold 1 a gain of 1 would start the network near saturation."""


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """Draw the initial weights in place, module by module in the network's order.

    Matrices and kernels are uniform in ±1/√fan_in (PyTorch's default), biases zero, normalisation
    gains 0.5, trained decays uniform in their `start_ranges`. A module of one's own that has a
    method `initialise(generator)` is left to it. A network that is no `SpikingNetwork` keeps all
    else as it was built (`build_network`, with a seed).
    """
    generator = torch_stream(seed, Purpose.INITIAL_WEIGHTS)
    for module in network.modules():
        if callable(draw := getattr(module, "initialise", None)):
            draw(generator)
        elif not isinstance(network, SpikingNetwork):
            continue
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            _uniform(module.weight, generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LayerNorm | StepGroupNorm):
            module.weight.fill_(NORMALISATION_GAIN)
            module.bias.zero_()
        elif isinstance(module, SpikingLayer):
            _draw_neurons(module, network.model, generator)


def _draw_neurons(neuron: SpikingLayer, model: ModelGroup, generator: torch.Generator) -> None:
    for name, ends in neuron.start_ranges(model).items():
        row: nn.Parameter = getattr(neuron, name)
        if row.requires_grad:
            values = torch.empty_like(row).uniform_(*ends, generator=generator)
            row.copy_(neuron.maps[name].start(name, values))
    if neuron.scan.recurrent:
        _uniform(neuron.weight, generator)
        if neuron.bias is not None:
            neuron.bias.zero_()


def _uniform(weight: Tensor, generator: torch.Generator) -> None:
    bound = weight[0].numel() ** -0.5
    weight.uniform_(-bound, bound, generator=generator)
