"""The attack on the first layer: its gradient is the clip, summed with weights over time.

A linear map I = W x + b has dL/dW_i = δ_i x and dL/db_i = δ_i, so their ratio is its input (Phong
et al. 2018, doi 10.1109/TIFS.2017.2787987). Over T steps it is

    dL/dW_i = Σ_t δ_i[t] x[t],    dL/db_i = Σ_t δ_i[t]

and the ratio is a mean of the frames x[t], weighted by what each step of neuron i's membrane did to
the loss: through the surrogate in a spiking layer, through the slope of the rectifier in its twin.
H neurons give H such means. Whoever knew δ, [H, T], could solve them for the frames if H >= T, and
without the bias, which a normalised layer lacks. The weights over time are secret. Those of public
clips of the same word take their place; those of what was found then take theirs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fnl.snn.network import SpikingNetwork
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.training.loss import TrainingLoss

RIDGE, RIDGE_OF_KNOWN = 0.1, 0.01
"""Of the mean square of the weights over time, where they are guessed and where they are known; it
also holds neighbouring frames together."""
REFINEMENTS = 5


class FirstLayer:
    """The first linear map of a network, dense or a convolution over time, and its attack.

    Args:
        network: whose update is attacked; nothing in it draws.
        loss: that the update descends.
    """

    def __init__(self, network: SpikingNetwork, loss: TrainingLoss) -> None:
        self._network, self._loss = network, loss
        first = network.linear[0]
        self._conv = first if isinstance(first, TemporalConv) else None
        self.name = "linear.0.conv.weight" if self._conv else "linear.0.weight"

    def weights_over_time(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return δ of clips [n, T, F] as what the gradient is linear in, [n, equations, T]."""
        entered: list[Tensor] = []

        def keep(_module: object, _inputs: object, output: Tensor) -> None:
            output.requires_grad_()
            entered.append(output)

        hook = self._network.linear[0].register_forward_hook(keep)
        try:
            logits = self._network(features)
        finally:
            hook.remove()
        (delta,) = torch.autograd.grad(self._loss.by_autograd(logits, labels), entered)
        return self._equations(delta)

    def solve(self, gradient: Tensor, weights: Tensor, ridge: float = RIDGE) -> Tensor:
        """Return the B clips [B, T, F] that `gradient` is the sum of, by ridge regression.

        Args:
            gradient: of the map's weights.
            weights: of the clips over time, [B, equations, T].
            ridge: its weight.
        """
        clips, _, steps = weights.shape
        by_neuron = gradient if self._conv is None else gradient.transpose(1, 2).flatten(0, 1)
        design = weights.transpose(0, 1).flatten(1)  # [equations, B·T]
        normal = design.T @ design
        change = torch.diff(torch.eye(steps), dim=0)
        prior = torch.eye(steps) + change.T @ change
        scale = ridge * normal.diagonal().mean() + 1e-20
        normal = normal + scale * torch.block_diag(*[prior] * clips)
        return torch.linalg.solve(normal, design.T @ by_neuron).view(clips, steps, -1)

    def refine(self, gradient: Tensor, label: int, public: Tensor) -> Tensor:
        """Return one clip [T, F], starting from public weights over time [equations, T].

        Of all that was found on the way it is what explains the gradient best.
        """
        labels = torch.tensor([label])
        clip = best = self.solve(gradient, public[None])
        closest = -torch.inf
        for _ in range(REFINEMENTS + 1):
            weights = self.weights_over_time(clip, labels)
            own = self._gradient(weights[0], clip[0])
            close = float(F.cosine_similarity(own.flatten(), gradient.flatten(), dim=0))
            if close > closest:
                best, closest = clip, close
            clip = self.solve(gradient, weights)
        return best[0]

    def _gradient(self, weights: Tensor, clip: Tensor) -> Tensor:
        made = weights @ clip
        if self._conv is None:
            return made
        return made.unflatten(0, (-1, self._conv.conv.kernel_size[0])).transpose(1, 2)

    def _equations(self, delta: Tensor) -> Tensor:
        """Return the weights of each step of a clip in each row of the gradient.

        A neuron has one row, or one a tap: tap k sees at step t what the clip holds at
        t + k · dilation − padding.
        """
        if self._conv is None:
            return delta.transpose(1, 2)
        steps, (before, _) = delta.shape[1], self._conv.padding
        (size,), (dilation,) = self._conv.conv.kernel_size, self._conv.conv.dilation
        moved = []
        for tap in range(size):
            ahead = tap * dilation - before
            padded = F.pad(delta, (0, 0, max(ahead, 0), max(-ahead, 0)))
            moved.append(padded[:, :steps] if ahead >= 0 else padded[:, -steps:])
        return torch.stack(moved, 3).permute(0, 2, 3, 1).flatten(1, 2)
