"""Recurrent layers: every neuron hears what every neuron sent in the step before."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from fnl.config import ModelGroup
from fnl.snn.kernels.rectified import RECURRENT_RECTIFIED_SCAN
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.spiking_layer import SpikingLayer


class Recurrent(SpikingLayer):
    """Synapses between the neurons of the class that comes after it.

    Args:
        features: F.
        rows: the neurons' parameters, as the other class takes them.
        bias: whether there is c.
        neuron: the other class's options.

    Raises:
        ConfigError: if a value is out of range.
    """

    def __init__(
        self, features: int, *rows: float | Tensor, bias: bool = True, **neuron: Any
    ) -> None:
        super().__init__(*rows, **neuron)
        self.add_synapses(features, bias=bias)

    @classmethod
    def build(cls, model: ModelGroup, features: int) -> Self:
        """Return the neurons that a configuration describes, without c."""
        return cls(features, bias=False, **cls.settings(model, features))


class RecurrentLIF(Recurrent, LIF):
    """LIF neurons with all-to-all recurrence: snnTorch's `RLeaky`, all steps at once.

        u[t] = β u[t−1] + I[t] + W S[t−1] + c − θ H(u[t−1] − θ),    S[t] = H(u[t] − θ)

    W and c are `weight` [F to, F from] and `bias` [F], trained, initialised as `nn.Linear`; S is
    zero before the first step, where c enters already. Spikes are snnTorch's up to the rounding
    of W S, whose terms are added in another order. Arguments are those of `Recurrent` and `LIF`.
    """

    scan = RECURRENT_SCAN


class RecurrentRectified(Recurrent, Rectified):
    """The same with rectified output: the twin of `RecurrentLIF`.

        u[t] = β u[t−1] + (1 − β)(I[t] + W a[t−1] + c),    a[t] = max(u[t] − θ, 0)

    Arguments are those of `Recurrent` and `Rectified`.
    """

    scan = RECURRENT_RECTIFIED_SCAN
