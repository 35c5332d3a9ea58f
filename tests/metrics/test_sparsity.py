"""Sparsity, energy and footprint; test_fan_out.py counts the operations one by one."""

import pytest
import torch
from rounding import make_products_exact, on_grid
from torch import Tensor

from fnl.config import ModelGroup
from fnl.metrics.sparsity import footprint_bytes, sparsity
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise

CLIPS, STEPS, FEATURES, CLASSES = 5, 7, 6, 3


def network(normalisation: str = "layer", **model: object) -> SpikingNetwork:
    built = build_network(
        ModelGroup(hidden="8,4", normalisation=normalisation, threshold=0.5, **model),
        FEATURES,
        CLASSES,
    )
    initialise(built, 0)
    make_products_exact(built)  # spikes are those of any batch
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in built.synapses():  # a third of the synapses is pruned
            weight.mul_(torch.rand(weight.shape, generator=generator) > 1 / 3)
    return built


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    features = on_grid(3 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))
    features[torch.rand(features.shape, generator=generator) < 0.4] = 0
    return features, torch.arange(CLIPS) % CLASSES


def test_energy_is_in_nanojoules_and_takes_other_hardware(data):
    model = network()
    evaluation = evaluate(model, *data, CLASSES)
    measured = sparsity(model, evaluation)
    macs, acs = measured.effective_macs, measured.effective_acs
    assert measured.energy_nj == pytest.approx((4.6 * macs + 0.9 * acs) * 1e-12 / 1e-9)
    other = sparsity(model, evaluation, mac_picojoules=10, ac_picojoules=0)
    assert other.energy_nj == pytest.approx(macs / 100)


def test_a_silent_network_costs_its_first_layer_alone(data):
    model = network()
    with torch.no_grad():
        for neuron in model.neuron:
            neuron.threshold.fill_(1e6)
    measured = sparsity(model, evaluate(model, *data, CLASSES))
    assert (measured.effective_acs, measured.activation_sparsity) == (0, 1)
    assert measured.effective_macs > 0


def test_repeating_the_clips_changes_no_cost_a_clip(data):
    model = network()
    once = sparsity(model, evaluate(model, *data, CLASSES))
    twice = sparsity(model, evaluate(model, *(torch.cat([x, x]) for x in data), CLASSES))
    for name in ("activation_sparsity", "effective_acs", "effective_macs", "energy_nj"):
        assert getattr(twice, name) == pytest.approx(getattr(once, name), rel=1e-12)


def test_footprint_counts_parameters_and_buffers_of_any_type():
    model = network("none")
    weights = FEATURES * 8 + 8 + 8 * 4 + 4 + 4 * CLASSES + CLASSES
    neurons = 2 * 2  # β and θ of each spiking layer
    assert footprint_bytes(model) == 4 * (weights + neurons)
    model.register_buffer("extra", torch.zeros(3, dtype=torch.int64))
    assert footprint_bytes(model) == 4 * (weights + neurons) + 24
    assert footprint_bytes(network("layer")) == 4 * (weights + neurons + 8 + 4)
