"""Recurrent spiking layers: every neuron hears every neuron's last spike."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fnl.snn.kernels.recurrent import (
    recurrent,
    recurrent_backward,
    recurrent_forward,
    spikes_before,
)
from fnl.snn.kernels.scan import Recorded
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.spiking_layer import GoBack, PerClip


class RecurrentLIF(LIF):
    """LIF neurons with all-to-all recurrence: snnTorch's `RLeaky`, all steps at once.

        u[t] = β u[t−1] + I[t] + W S[t−1] + c − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    W and c are `weight` [F to, F from] and `bias` [F], trained, initialised as `nn.Linear`; S is
    zero before the first step, where c enters already. Spikes are snnTorch's up to the rounding
    of W S, whose terms are added in another order.

    Args:
        features: F.
        beta: as in `LIF`.
        threshold: as in `LIF`.
        bias: whether there is c.
        neuron: `LIF`'s other options.

    Raises:
        ConfigError: if a value is out of range.
    """

    def __init__(
        self,
        features: int,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        bias: bool = True,
        **neuron: Any,
    ) -> None:
        super().__init__(beta, threshold, **neuron)
        initial = nn.Linear(features, features, bias=bias)
        self.weight = nn.Parameter(initial.weight)
        self.bias = nn.Parameter(initial.bias) if bias else None

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes S, 0 or 1, [B, T, F], for the current I [B, T, F].

        Raises:
            ValueError: if `current` is not [B, T, F] with T >= 1 and this layer's F.
        """
        beta, threshold = self._rows(current)
        return recurrent(current, beta, threshold, *self._recurrent_rows(current), self.dynamics)

    def forward_and_back(
        self,
        current: Tensor,
        *,
        overwrite: bool = False,  # noqa: ARG002 - the weights' gradients need both
    ) -> tuple[Tensor, GoBack]:
        """Do `forward` without autograd; return the spikes and the way back, to be gone once."""
        rows = self._contiguous_rows(current)
        beta, threshold, weight, _ = rows
        spikes, membrane, _ = recurrent_forward(
            current.contiguous(), *rows, self.dynamics, save=True
        )
        if membrane is None:
            raise RuntimeError("the kernel saved nothing")

        def back(grad_spikes: Tensor) -> tuple[Tensor, PerClip]:
            grad_current, grad_beta, grad_threshold = recurrent_backward(
                grad_spikes, membrane, beta, threshold, weight, self.dynamics
            )
            gradients = self._per_clip(grad_beta, grad_threshold)
            if self.weight.requires_grad:
                before = spikes_before(membrane, threshold)
                gradients[self.weight] = grad_current.transpose(1, 2) @ before
            if self.bias is not None and self.bias.requires_grad:
                gradients[self.bias] = grad_current.sum(1)
            return grad_current, gradients

        return spikes, back

    def _record(self, current: Tensor) -> tuple[Tensor, Recorded | None]:
        """Return spikes [B, T, F] and what the kernel recorded."""
        rows = self._contiguous_rows(current)
        spikes, _, recorded = recurrent_forward(
            current.contiguous(), *rows, self.dynamics, record=True
        )
        return spikes, recorded

    def _contiguous_rows(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return β, θ, W and c as the kernel takes them."""
        beta, threshold = (row.contiguous() for row in self._rows(current))
        weight, bias = (row.contiguous() for row in self._recurrent_rows(current))
        return beta, threshold, weight, bias

    def _recurrent_rows(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and c for this current, differentiable.

        Raises:
            ValueError: if the current has another number of neurons.
        """
        features = len(self.weight)
        if current.shape[-1] != features:
            raise ValueError(
                f"RecurrentLIF has {features} neurons, got a current for {current.shape[-1]}"
            )
        weight = self.weight.to(current.dtype)
        if self.bias is None:
            return weight, weight.new_zeros(features)
        return weight, self.bias.to(current.dtype)
