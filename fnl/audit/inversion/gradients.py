"""Gradients of clips that are differentiable by the clips: what gradient matching descends on.

Training's kernels go back once. Here a layer is one product over time instead. With a reset by
subtraction, which carries no gradient, the membrane is linear in what enters it,

    u[t] = Σ_s β^(t−s) (I[s] − θ R[s]),    R[s] = S[s−1],

once it is known when neurons fired; of the rectified twin it is (1 − β) Σ_s β^(t−s) I[s]. The
training's own forward pass says when they fired, and a test holds the gradients to training's.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fnl.snn.kernels.dynamics import Reset
from fnl.snn.kernels.torch_blocks import sent
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.training.loss import TrainingLoss

Gradients = dict[str, Tensor]
"""Gradients of each clip, [n, *p.shape], by name of the parameter p."""


class DifferentiableGradients:
    """Per-clip gradients of all trained parameters of a network, differentiable by the clips.

    Args:
        network: of layers `lif` that reset by subtraction or not at all, or their twins; nothing in
            it draws. It is copied.
        loss: that they are of.
    """

    def __init__(self, network: SpikingNetwork, loss: TrainingLoss) -> None:
        self._network = network.eval()
        copy = deepcopy(network)
        self._layers: list[_OverTime] = []
        for neuron in copy.neuron:
            if not isinstance(neuron, SpikingLayer):
                raise TypeError(f"{type(neuron).__name__} is no layer of fnl's own")
            self._layers.append(_OverTime(neuron))
            neuron.forward = self._layers[-1].forward
        self._parameters = {
            name: p.detach() for name, p in copy.named_parameters() if p.requires_grad
        }

        def of_one(trained: dict[str, Tensor], clip: Tensor, label: Tensor, fired: list[Tensor]):
            for layer, spikes in zip(self._layers, fired, strict=True):
                layer.fired = spikes[None]
            logits = functional_call(copy, trained, (clip[None],))
            return loss.by_autograd(logits, label[None])

        self._of_each = vmap(grad(of_one), in_dims=(None, 0, 0, 0))

    def __call__(self, features: Tensor, labels: Tensor) -> Gradients:
        """Return the gradients of clips [n, T, F] of labels int64 [n], each by itself."""
        with torch.no_grad():
            fired = self._network.spike_trains(features.detach())
        return self._of_each(self._parameters, features, labels, fired)


class _OverTime:
    """All steps of a layer at once; `fired` is when its neurons fired, [1, T, F]."""

    def __init__(self, neuron: SpikingLayer) -> None:
        self._neuron, self.fired = neuron, torch.empty(0)

    def forward(self, current: Tensor) -> Tensor:
        """Return what the neurons send, [1, T, F], of their current [1, T, F]."""
        neuron = self._neuron
        beta, threshold = (
            neuron.row_value(name).expand(current.shape[2]) for name in ("beta", "threshold")
        )
        steps = torch.arange(current.shape[1])
        ago = steps[:, None] - steps
        kept = (beta[:, None, None] ** ago.clamp(min=0)).tril()  # [F, T, T]
        entered = (1 - beta) * current if neuron.scan.rectifies else current
        if neuron.dynamics.reset is Reset.SUBTRACT:
            before = F.pad(self.fired, (0, 0, 1, 0))[:, :-1]
            entered = entered - threshold * before
        membrane = torch.einsum("fts,bsf->btf", kept, entered)
        return sent(membrane - threshold, neuron.scan.plain_dynamics(neuron.dynamics))
