"""Recurrent spiking layers: every neuron hears every neuron's last spike."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from fnl.config import ModelGroup
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.spiking_layer import each, shared_settings


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

    scan = RECURRENT_SCAN

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
        self.add_synapses(features, bias=bias)

    @classmethod
    def build(cls, model: ModelGroup, features: int) -> Self:
        """Return the neurons that a configuration describes, without c."""
        learn = model.learn_beta
        beta = each(model.beta, features, trained=learn)
        settings = shared_settings(model, features)
        return cls(features, beta, bias=False, learn_beta=learn, **settings)
