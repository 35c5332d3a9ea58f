"""The layer of a neuron on its own scan, as it would stand in `fnl/snn/neurons/`."""

from __future__ import annotations

from typing import Self, Unpack

from torch import Tensor

from fnl.config import ModelGroup
from fnl.snn.neurons.parametrization import Free
from fnl.snn.neurons.spiking_layer import Options, SpikingLayer, each, shared_settings
from tests.snn.dendritic_scan import DENDRITIC_SCAN


class Dendritic(SpikingLayer):
    scan = DENDRITIC_SCAN

    def __init__(
        self,
        decays: tuple[float | Tensor, float | Tensor],
        threshold: float | Tensor = 1.0,
        *,
        learn_decays: bool = False,
        learn_threshold: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**{**options, "reset": "none"})
        for name, value in zip(("gamma", "beta"), decays, strict=True):
            self.add_decay(name, value, learn=learn_decays)
        self.add_row("threshold", threshold, Free(), learn=learn_threshold)

    @classmethod
    def build(cls, model: ModelGroup, features: int) -> Self:
        learn = model.learn_beta
        decay = each(model.beta, features, trained=learn)
        return cls((decay, decay), learn_decays=learn, **shared_settings(model, features))
