"""One network with the weights of K clients: it runs for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fnl.snn.network import SpikingNetwork, drawing_layers
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.training.batched.layers import runner_of
from fnl.training.per_clip.chain import links
from fnl.training.per_clip.direct_layers import Back
from fnl.weights import Weights


class ClientNetworks:
    """The networks of K clients, each a row of numbers.

    Args:
        network: built in, on the device; gives the structure, and what is not trained.
        models: the weights of each client.

    Attributes:
        values: all trained numbers, [K, numbers], parameter by parameter.
        parameters: the trained ones, in the network's order.
        drawing: the layers that draw.
    """

    def __init__(self, network: SpikingNetwork, models: Sequence[Weights]) -> None:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self._names = [name for name, _ in named]
        self.values = self.rows(models)
        self.drawing = drawing_layers(network)
        layers = list(links(network, lambda _: False))
        self._steps = [(runner_of(layer), layer) for layer in layers]
        trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
        self._first = trained.index(True)
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._places = {
            parameter: (start, size)
            for parameter, start, size in zip(
                self.parameters, np.cumsum([0, *self._sizes]).tolist(), self._sizes, strict=False
            )
        }

    def run(self, signal: Tensor, clients: int) -> tuple[Tensor, list[Back], list[Tensor]]:
        """Return logits [k·R, C], the ways back, and the spikes of each layer [k·R, T, F].

        Args:
            signal: [k·R, T, F], of the first clients.
            clients: k.
        """

        def of(parameter: nn.Parameter) -> Tensor:
            if parameter not in self._places:
                return parameter.detach().expand(clients, *parameter.shape)
            start, size = self._places[parameter]
            own = self.values[:clients, start : start + size]
            return own.unflatten(1, parameter.shape) if parameter.ndim else own[:, 0]

        backs: list[Back] = []
        spikes: list[Tensor] = []
        for number, (run, layer) in enumerate(self._steps):
            if run is None:
                raise TypeError(f"{type(layer).__name__} does not run for several clients")
            signal, back = run(layer, of, signal)
            if number >= self._first:
                backs.append(back)
            if isinstance(layer, SpikingLayer):
                spikes.append(signal)
        return signal, backs, spikes

    def rows(self, models: Sequence[Weights]) -> Tensor:
        """Return what is shaped as the weights of several clients, as rows [K, numbers]."""
        rows = [np.concatenate([model[name].ravel() for name in self._names]) for model in models]
        return torch.from_numpy(np.stack(rows)).to(self.parameters[0])

    def matrices(self) -> Tensor:
        """Return which numbers belong to parameters with more than one axis, bool [numbers]."""
        kinds = [torch.full((p.numel(),), p.ndim > 1) for p in self.parameters]
        return torch.cat(kinds).to(self.values.device)

    def weights(self) -> list[Weights]:
        """Return the weights of each client."""
        rows = self.values.numpy(force=True)
        ends = np.cumsum(self._sizes)[:-1]
        named = list(zip(self._names, self.parameters, strict=True))
        return [
            {
                name: part.reshape(tuple(parameter.shape)).copy()
                for (name, parameter), part in zip(named, np.split(row, ends), strict=True)
            }
            for row in rows
        ]


def why_not(network: nn.Module) -> str | None:
    """Return what in `network` does not run for several clients at once; None if all does."""
    if not isinstance(network, SpikingNetwork):
        return f"a network of one's own ({type(network).__name__})"
    for layer in links(network, lambda _: False):
        if runner_of(layer) is None:
            return f"a layer of one's own ({type(layer).__name__})"
    return None
