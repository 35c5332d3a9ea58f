"""Synaptic operations of every network, counted one multiplication at a time."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.metrics.fan_out import fan_out, synapses_met
from fnl.metrics.memory import state_bytes
from fnl.metrics.sparsity import sparsity
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.snn.networks.conv import TimeFrequencyConv
from fnl.snn.networks.taps import Taps
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.snn.neurons.recurrent import RecurrentLIF

CLIPS, STEPS, FEATURES, CLASSES = 3, 8, 5, 3

NETWORKS = {
    "feedforward": {"hidden": "6,4"},
    "currents as they are": {"hidden": "6,4", "normalisation": "none"},
    "all layers read": {"hidden": "6,4", "readout_layers": "all"},
    "recurrent": {"network": "recurrent", "hidden": "6,4", "threshold": 0.3},
    "temporal-conv": {"network": "temporal-conv", "hidden": "6,4", "kernel_size": 3},
    "causal": {"network": "temporal-conv", "hidden": "6,4", "kernel_size": 2, "padding": "causal"},
    "conv": {"network": "conv", "hidden": "2,3", "kernel_size": 3, "threshold": 0.3},
    "delta": {"network": "temporal-conv", "hidden": "6,4", "encoding": "delta"},
}


def network(name: str) -> SpikingNetwork:
    model = ModelGroup.model_validate({"threshold": 0.5, "surrogate": "atan", **NETWORKS[name]})
    built = build_network(model, FEATURES, CLASSES)
    initialise(built, 0)
    generator = torch.Generator().manual_seed(3)
    recurrent = [n.weight for n in built.neuron if isinstance(n, RecurrentLIF)]
    with torch.no_grad():
        for weight in (*built.synapses(), *recurrent):  # a third of the synapses is pruned
            weight.mul_(torch.rand(weight.shape, generator=generator) > 1 / 3)
    return built


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    features = 3 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator)
    features[torch.rand(features.shape, generator=generator) < 0.4] = 0
    return features, torch.arange(CLIPS) % CLASSES


def operations(layer: nn.Module, signal: Tensor) -> int:
    """Count products of a value and a weight that are both not zero, one by one."""
    if isinstance(layer, nn.Linear):
        return sum(int(((layer.weight * row) != 0).sum()) for row in signal.flatten(0, 1))
    if isinstance(layer, TemporalConv):
        return _over_time(layer, signal)
    assert isinstance(layer, TimeFrequencyConv)
    return _over_time_and_frequency(layer, signal)


def _over_time(layer: TemporalConv, signal: Tensor) -> int:
    weight, dilation, count = layer.conv.weight, layer.conv.dilation[0], 0
    for clip, step, tap in itertools.product(signal, range(STEPS), range(weight.shape[2])):
        source = step + dilation * tap - layer.padding[0]
        if 0 <= source < STEPS:
            count += int(((weight[:, :, tap] * clip[source]) != 0).sum())
    return count


def _over_time_and_frequency(layer: TimeFrequencyConv, signal: Tensor) -> int:
    weight, dilation, count = layer.conv.weight, layer.conv.dilation[0], 0
    channels = layer.conv.in_channels
    for clip, step, out in itertools.product(signal, range(STEPS), range((layer.bands + 1) // 2)):
        planes = clip.reshape(STEPS, channels, layer.bands)
        for tap, near in itertools.product(range(weight.shape[2]), range(3)):
            source, band = step + dilation * tap - layer.padding[2], 2 * out + near - 1
            if 0 <= source < STEPS and 0 <= band < layer.bands:
                count += int(((weight[:, :, tap, near] * planes[source, :, band]) != 0).sum())
    return count


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_counted_one_by_one(name, data):
    model = network(name)
    signals = model.trace(data[0]).signals
    layers = (*model.linear, model.readout.linear)
    first, *others = (
        operations(layer, signal) for layer, signal in zip(layers, signals, strict=True)
    )
    recurrent = sum(
        int(((neuron.weight * row) != 0).sum())
        for neuron, spikes in zip(model.neuron, signals[1:], strict=True)
        if isinstance(neuron, RecurrentLIF)
        for row in spikes[:, :-1].flatten(0, 1)
    )
    assert first > 0
    assert all(others)
    assert (recurrent > 0) == (name == "recurrent")
    measured = sparsity(model, evaluate(model, *data, CLASSES))
    accumulates = sum(others) + recurrent + (first if name == "delta" else 0)
    multiplied = 0 if name == "delta" else first
    assert measured.effective_macs * CLIPS == pytest.approx(multiplied, rel=1e-12)
    assert measured.effective_acs * CLIPS == pytest.approx(accumulates, rel=1e-12)
    sent = torch.cat([spikes.flatten() for spikes in model.spike_trains(data[0])])
    silent = float((sent == 0).double().mean())
    assert measured.activation_sparsity == pytest.approx(silent, rel=1e-12)
    # effective, not dense: zero inputs, silent neurons and pruned synapses cost nothing
    assert multiplied + accumulates < 0.7 * CLIPS * measured.dense_operations


def test_values_at_an_edge_meet_fewer_synapses():
    layer = TemporalConv(1, 1, Taps(3, 2))
    np.testing.assert_array_equal(fan_out(layer, 6, 1)[:, 0], [2, 2, 3, 3, 2, 2])
    causal = TemporalConv(1, 1, Taps(3, 2, causal=True))
    np.testing.assert_array_equal(fan_out(causal, 6, 1)[:, 0], [3, 3, 2, 2, 1, 1])


def test_biases_are_no_synapses_and_weights_stay_as_they_are():
    layer = nn.Linear(4, 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    np.testing.assert_array_equal(fan_out(layer, 2, 4), np.full((2, 4), 3))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert layer.weight.grad is None


class Projected(nn.Module):
    """A fixed projection in single precision, in front of a trained map."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(4, 4))
        self.linear = nn.Linear(4, 3)

    def forward(self, signal: Tensor) -> Tensor:
        return self.linear(signal @ self.projection)


class Gained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gain = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.5))

    def forward(self, signal: Tensor) -> Tensor:
        return self.linear(signal) * self.gain


UNCOUNTABLE = [
    Projected,
    Gained,
    lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
]


@pytest.mark.parametrize("make", UNCOUNTABLE)
def test_synapses_that_cannot_be_counted_are_no_number_and_no_error(make):
    model = ModelGroup(hidden="3", normalisation="none")
    network = SpikingNetwork(model, [make()], (3,), 2)
    assert synapses_met(network.linear[0], 6, 4) is None
    found = evaluate(network, torch.randn(5, 6, 4), torch.zeros(5).long(), 2)
    measured = sparsity(network, found)
    assert (measured.effective_acs, measured.energy_nj, measured.dense_operations) == (None,) * 3
    assert measured.activation_sparsity == 1 - found.firing.rate()


def test_synapses_of_linear_maps_of_ones_own_are_counted():
    low_rank = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
    assert synapses_met(low_rank, 6, 4).tolist() == [[6.0] * 4] * 6


def test_measures_of_a_module_of_ones_own_are_none_where_they_do_not_apply():
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
    found = evaluate(network, torch.randn(5, 6, 4), torch.zeros(5).long(), 2)
    measured = sparsity(network, found)
    assert measured.footprint_bytes == 4 * (24 * 2 + 2)
    others = [getattr(measured, one.name) for one in fields(measured)]
    assert [value for value in others if value is not None] == [measured.footprint_bytes]
    assert state_bytes(network, found) is None
