"""Learned axonal delays before each dense layer: taps as `temporal-conv` has, which then move."""

from __future__ import annotations

from fnl.config import ModelGroup
from fnl.snn.delays import DelayedLinear
from fnl.snn.networks.stack import SpikingNetwork
from fnl.snn.networks.temporal_conv import over_time


def delays(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return [delays → Linear → normalisation → neurons → dropout] × L and a read-out.

    Every neuron has `model.kernel_size` delays, at the start `model.dilations` steps apart.
    """
    return over_time(DelayedLinear, model, inputs, classes)
