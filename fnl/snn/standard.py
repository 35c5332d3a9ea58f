"""Features of mean 0 and deviation 1, by numbers that are fitted once.

DP-SGD bounds a clip's gradient, and the read-out's is as long as the features are. Spikes have
means far above zero that are much the same for all words: they take most of the bound and tell
nothing. Where the numbers come from public clips, to take them out costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

FLOOR = 0.05
"""Added to deviations: a neuron that hardly fires on the clips of the fit is not blown up."""


class Standard(nn.Module):
    """z = (x − mean)·gain of each feature: [..., F] -> [..., F]; at first z = x.

    Args:
        features: F.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features))
        self.gain = nn.Parameter(torch.ones(features))

    def forward(self, signal: Tensor) -> Tensor:
        """Return z."""
        return (signal - self.mean) * self.gain

    def forward_and_back(
        self,
        signal: Tensor,
        *,
        overwrite: bool = False,  # noqa: ARG002 - the interface's; nothing is gained here
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, dict[nn.Parameter, Tensor]]]]:
        """Return z of signals [B, F], and a function from dL/dz to the gradients of each clip."""

        def back(grad: Tensor) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
            each = {self.mean: -grad * self.gain, self.gain: grad * (signal - self.mean)}
            wanted = {parameter: g for parameter, g in each.items() if parameter.requires_grad}
            return grad * self.gain, wanted

        return self(signal), back

    @torch.no_grad()
    def fit(self, signals: Tensor, follower: nn.Linear) -> None:
        """Make z of `signals` [n, F] standard, and change `follower` so that it says the same.

        Args:
            signals: x of the clips to fit to.
            follower: what is given z.
        """
        mean, gain = signals.mean(0), 1 / (signals.std(0) + FLOOR)
        # W z + b = W (x − m) g + b, before and after
        weight = follower.weight * self.gain
        bias = follower.bias - weight @ self.mean
        follower.bias.copy_(bias + weight @ mean)
        follower.weight.copy_(weight / gain)
        self.mean.copy_(mean)
        self.gain.copy_(gain)
