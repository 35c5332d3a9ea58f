"""The twin of a spiking layer: leaky integrators that send how far they are above, no spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.kernels.dynamics import Backend
from fnl.snn.kernels.rectified import RECTIFIED_SCAN
from fnl.snn.neurons.parametrization import BetaMap, Free
from fnl.snn.neurons.spiking_layer import SpikingLayer, each
from fnl.snn.neurons.time_steps import decay_in


class Rectified(SpikingLayer):
    """Leaky integrators with rectified output, all steps at once: the twin of `LIF`.

        u[t] = β u[t−1] + (1 − β) I[t],    a[t] = max(u[t] − θ, 0)

    That is the rate model of a neuron with time constant −1/ln β steps. The integrator has gain
    one, where that of `LIF` has 1/(1 − β): nothing resets it, and activations come out in the
    order of firing rates. θ starts at zero: there is no threshold unless one is trained, as an
    offset of each neuron. The gradient is exact: there is no surrogate.

    Args:
        beta: decay per step in [0, 1], one number for the layer or one a neuron, [F].
        threshold: θ, one number or [F].
        learn_beta: whether β is trained.
        learn_threshold: whether θ is trained.
        beta_map: how β is kept, as in `SpikingLayer`.
        backend: as there; there is no Triton kernel, on a GPU plain PyTorch runs.

    Raises:
        ConfigError: if a value is out of range.
    """

    scan = RECTIFIED_SCAN
    beta: nn.Parameter
    threshold: nn.Parameter

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 0.0,
        *,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        beta_map: BetaMap = "clamp",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(reset="none", beta_map=beta_map, backend=backend)
        self.add_decay("beta", beta, learn=learn_beta)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def settings(cls, model: ModelGroup, features: int) -> dict[str, Any]:
        """Return the arguments that a configuration describes."""
        return {
            "beta": each(model.beta, features, trained=model.learn_beta),
            "threshold": torch.zeros(features) if model.learn_threshold else 0.0,
            "learn_beta": model.learn_beta,
            "learn_threshold": model.learn_threshold,
            "beta_map": "sigmoid" if model.learn_beta else "clamp",
        }

    def in_steps(
        self, rows: dict[str, Tensor], logs: dict[str, Tensor], ratio: float
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return β^ρ: the integrator has gain one whatever its decay."""
        return rows | {"beta": decay_in(logs["beta"], ratio)}, None
