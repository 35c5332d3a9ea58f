"""Leaky integrate-and-fire neurons, and the read-out.

For the same currents the neurons are snnTorch 1.0's to the last bit on any machine: a neuron's
step is the same operations in the same order, each rounded by itself. Only the order of work is
another: a layer at a time instead of a step at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.snn.kernels.lif import LIF_SCAN
from fnl.snn.neurons.parametrization import Free
from fnl.snn.neurons.spiking_layer import SpikingLayer, TimedOptions, shared_settings
from fnl.snn.neurons.time_steps import decay_in, gain_in
from fnl.snn.standard import Standard


class LIF(SpikingLayer):
    """Leaky integrate-and-fire neurons: snnTorch's `Leaky`, all steps at once.

    With `reset="subtract"` (u starts at 0, H the Heaviside step):

        u[t] = β u[t−1] + I[t] − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    The reset carries no gradient; dS/du is the surrogate. β and θ are parameters in any case, so
    that they travel with the model, and are trained only if asked for.

    Args:
        beta: decay per step in [0, 1], one number for the layer or one a neuron, [F].
        threshold: θ, one number or [F].
        learn_beta: whether β is trained.
        learn_threshold: whether θ is trained.
        options: reset and its timing, surrogate, `beta_map` (how β is kept) and backend, as in
            `SpikingLayer`.

    Raises:
        ConfigError: if a value is out of range.
    """

    scan = LIF_SCAN
    beta: nn.Parameter
    threshold: nn.Parameter

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        **options: Unpack[TimedOptions],
    ) -> None:
        super().__init__(**options)
        self.add_decay("beta", beta, learn=learn_beta)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def settings(cls, model: ModelGroup, features: int) -> dict[str, Any]:
        """Return the arguments that a configuration describes."""
        return shared_settings(model, features, beta=model.beta)

    def in_steps(
        self, rows: dict[str, Tensor], logs: dict[str, Tensor], ratio: float
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return β^ρ, and the gain (1 − β^ρ)/(1 − β)."""
        return rows | {"beta": decay_in(logs["beta"], ratio)}, gain_in(logs["beta"], ratio)

    def decay(self) -> Tensor:
        """Return β in [0, 1], shaped as the parameter."""
        return self.row_value("beta")


class LeakyReadout(nn.Module):
    """Class scores: the mean over time of a leaky integrator without reset, over a linear layer.

    u[t] = β u[t−1] + W S[t] + b and score = (1/T) Σ_t u[t]. That is linear in S, so

        score = W Σ_s w_s S[s] + b Σ_s w_s,    w_s = (1 − β^(T−s)) / ((1 − β) T),

    which needs the linear layer once a clip instead of once a step.

    Args:
        in_features: F.
        out_features: number of classes C.
        beta: decay per step in [0, 1].
        bias: whether the linear layer has one; it enters at every step.
        standardise: whether the linear layer is given standard features: then W and b above are
            those of both together.

    Raises:
        ConfigError: if `beta` is out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        beta: float = 0.9,
        *,
        bias: bool = True,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigError(f"the readout's beta must lie in [0, 1], got {beta}")
        self.beta = beta
        self.ratio = 1.0
        self.standard = Standard(in_features) if standardise else None
        self.linear = nn.Linear(in_features, out_features, bias=bias)

    def in_time(self, ratio: float) -> None:
        """Let steps be `ratio` times as long as those of `beta`: same decay, same steady state."""
        self.ratio = ratio

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the scores [B, C] for the spikes [B, T, F]."""
        # The linear layer is given a weighted mean, so that its bias counts as often as it should.
        shares, total = self.time_shares(spikes)
        mean = shares @ spikes
        return self.linear(mean if self.standard is None else self.standard(mean)) * total

    @torch.no_grad()
    def fit_standard(self, trains: Iterable[Tensor]) -> None:
        """Standardise by the clips with these spikes, [B, T, F] each; no score changes.

        Without `standardise` nothing is done.
        """
        if self.standard is not None:
            means = torch.cat([self.time_shares(spikes)[0] @ spikes for spikes in trains])
            self.standard.fit(means, self.linear)

    def synapses(self) -> tuple[Tensor, Tensor | None]:
        """Return W [C, F] and b [C] of the formula above."""
        weight, bias, standard = self.linear.weight, self.linear.bias, self.standard
        if standard is None:
            return weight, bias
        weight = weight * standard.gain
        offset = weight @ standard.mean
        return weight, -offset if bias is None else bias - offset

    def time_shares(self, spikes: Tensor) -> tuple[Tensor, float]:
        """Return w_s / Σ_s w_s, [T] in the dtype of `spikes` [B, T, F], and Σ_s w_s."""
        return _time_shares(self.beta, spikes.shape[1], spikes.dtype, spikes.device, self.ratio)


@cache
def _time_weights(beta: float, steps: int, ratio: float) -> Tensor:
    decay, gain = beta, 1.0
    if ratio != 1:
        decay = beta**ratio
        gain = (1 - decay) / (1 - beta) if beta < 1 else ratio
    powers = torch.full((steps,), decay, dtype=torch.float64) ** torch.arange(steps)
    return gain * powers.cumsum(0).flip(0) / steps


@cache
def _time_shares(
    beta: float, steps: int, dtype: torch.dtype, device: torch.device, ratio: float
) -> tuple[Tensor, float]:
    weights = _time_weights(beta, steps, ratio)
    total = float(weights.sum())
    return (weights / total).to(device, dtype), total
