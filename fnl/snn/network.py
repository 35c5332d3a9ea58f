"""Spiking networks, executed layer by layer with time inside each layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.randomness import Purpose, torch_stream
from fnl.snn.neurons import LIF


class SpikingNetwork(nn.Module):
    """Feedforward spiking network with a membrane read-out.

    Each hidden layer is Linear → (LayerNorm over its neurons within one step) → LIF. The read-out
    is a leaky integrator without reset; the logits are its membrane, averaged over time. As that
    is linear in its input, the time average is taken before the last matrix product: with
    w_s = (1 − β^{T−s}) / ((1 − β) T), mean_t U_t = Σ_s w_s I_s.

    Clips never meet in a layer, so per-clip gradients are well defined.
    """

    def __init__(self, model: ModelGroup, inputs: int, classes: int) -> None:
        super().__init__()
        sizes = (inputs, *model.hidden_sizes)
        normalised = model.normalisation == "layer"
        self.linear = nn.ModuleList(
            nn.Linear(fan_in, fan_out, bias=not normalised)
            for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.norm = nn.ModuleList(
            nn.LayerNorm(size) if normalised else nn.Identity() for size in sizes[1:]
        )
        self.neuron = nn.ModuleList(
            LIF(
                size,
                beta=model.beta,
                threshold=model.threshold,
                surrogate_name=model.surrogate,
                slope=model.surrogate_slope,
            )
            for size in sizes[1:]
        )
        self.readout = nn.Linear(sizes[-1], classes)
        self.readout_beta = model.beta

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of inputs [B, T, F]."""
        return self._run(inputs, None)

    def forward_with_counts(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits [B, C] and, for each spiking layer, spikes per clip and neuron [B, F_l]."""
        counts: list[Tensor] = []
        logits = self._run(inputs, lambda spikes: counts.append(spikes.sum(dim=1)))
        return logits, counts

    def _run(self, inputs: Tensor, observe: Callable[[Tensor], None] | None) -> Tensor:
        signal = inputs
        for linear, norm, neuron in zip(self.linear, self.norm, self.neuron, strict=True):
            signal = neuron(norm(linear(signal)))
            if observe is not None:
                observe(signal)
        weights = readout_weights(signal.shape[1], self.readout_beta).to(signal)
        # [B, T, F] -> [B, F]; the bias enters the integrator at every step
        summary = torch.einsum("btf,t->bf", signal, weights)
        return summary @ self.readout.weight.T + self.readout.bias * weights.sum()


def readout_weights(steps: int, beta: float) -> Tensor:
    """Return how much each step's input counts in the time-averaged membrane: float64 [T]."""
    remaining = torch.arange(steps, 0, -1, dtype=torch.float64)
    return (1 - beta**remaining) / ((1 - beta) * steps)


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
