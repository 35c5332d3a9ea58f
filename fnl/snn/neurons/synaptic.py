"""Leaky integrate-and-fire neurons behind a synaptic current: second order."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.kernels.synaptic import SYNAPTIC_SCAN
from fnl.snn.neurons.parametrization import Free
from fnl.snn.neurons.spiking_layer import SpikingLayer, TimedOptions, shared_settings
from fnl.snn.neurons.time_steps import decay_in, gain_in


class Synaptic(SpikingLayer):
    """LIF neurons whose input current decays too: snnTorch's `Synaptic`, all steps at once.

        i[t] = α i[t−1] + I[t]
        u[t] = β u[t−1] + i[t] − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    The reset acts on the membrane only. Everything else is as in `LIF`.

    Args:
        alpha: decay of the synaptic current per step in [0, 1], one number or one a neuron, [F].
        beta: decay of the membrane per step in [0, 1], one number or [F].
        threshold: θ, one number or [F].
        learn_alpha: whether α is trained.
        learn_beta: whether β is trained.
        learn_threshold: whether θ is trained.
        options: reset and its timing, surrogate, `beta_map` (how α and β are kept) and backend,
            as in `SpikingLayer`.

    Raises:
        ConfigError: if a value is out of range.
    """

    scan = SYNAPTIC_SCAN
    alpha: nn.Parameter
    beta: nn.Parameter
    threshold: nn.Parameter

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        **options: Unpack[TimedOptions],
    ) -> None:
        super().__init__(**options)
        self.add_decay("alpha", alpha, learn=learn_alpha)
        self.add_decay("beta", beta, learn=learn_beta)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def settings(cls, model: ModelGroup, features: int) -> dict[str, Any]:
        """Return the arguments that a configuration describes."""
        return shared_settings(model, features, alpha=model.synaptic_decay, beta=model.beta)

    def in_steps(
        self, rows: dict[str, Tensor], logs: dict[str, Tensor], ratio: float
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return α^ρ and β^ρ, and the gain of both integrators."""
        decays = {name: decay_in(logs[name], ratio) for name in ("alpha", "beta")}
        return rows | decays, gain_in(logs["alpha"], ratio) * gain_in(logs["beta"], ratio)
