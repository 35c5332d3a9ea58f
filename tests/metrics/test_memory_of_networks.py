"""Membranes against snnTorch's, step by step; bytes against counting."""

from pathlib import Path

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor

from fnl.config import ModelGroup
from fnl.metrics.memory import (
    gradient_bytes,
    membrane_summary,
    membrane_updates,
    peak_memory_bytes,
    state_bytes,
)
from fnl.snn.evaluation import EVALUATION_BATCH, evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise

STEPS, FEATURES, CLASSES = 12, 6, 3
CLIPS = EVALUATION_BATCH + 9  # two batches


def network(**model: object) -> SpikingNetwork:
    options = {"hidden": "10,5", "threshold": 0.5, "normalisation": "none", **model}
    built = build_network(ModelGroup.model_validate(options), FEATURES, CLASSES)
    initialise(built, 0)
    return built


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    features = 2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator)
    return features, torch.arange(CLIPS) % CLASSES


def snntorch_membranes(model: SpikingNetwork, features: Tensor) -> list[np.ndarray]:
    """Return the membrane after each step of each layer, [B, T, F_l], of snnTorch's neurons."""
    signal, membranes = features, []
    for linear, neuron in zip(model.linear, model.neuron, strict=True):
        reference = snn.Leaky(float(neuron.beta), threshold=float(neuron.threshold))
        state, spikes, trace = reference.init_leaky(), [], []
        for step in linear(signal).unbind(1):
            spike, state = reference(step, state)
            spikes.append(spike)
            trace.append(state)
        signal = torch.stack(spikes, 1)
        membranes.append(torch.stack(trace, 1).double().numpy())
    return membranes


@torch.no_grad()
def test_membranes_are_snntorchs_over_all_batches(data):
    model = network()
    evaluation = evaluate(model, *data, CLASSES)
    updates = 0
    for layer, u in enumerate(snntorch_membranes(model, data[0])):
        summary = membrane_summary(evaluation.membranes[layer])
        centred = u - u.mean((0, 1))
        lagged = (centred[:, 1:] * centred[:, :-1]).sum((0, 1)) / (centred**2).sum((0, 1))
        assert summary.mean == pytest.approx(u.mean(), rel=1e-5)
        assert summary.variance == pytest.approx(u.var((0, 1)).mean(), rel=1e-5)
        assert summary.autocorrelation == pytest.approx(lagged.mean(), rel=1e-5)
        updates += CLIPS * u.shape[2] + np.count_nonzero(np.diff(u, axis=1))
    assert membrane_updates(evaluation) == updates / CLIPS


def test_membranes_that_never_move_have_no_autocorrelation(data):
    model = network(hidden="4")
    with torch.no_grad():
        for parameter in model.linear.parameters():
            parameter.zero_()
    evaluation = evaluate(model, *data, CLASSES)
    summary = membrane_summary(evaluation.membranes[0])
    assert (summary.mean, summary.variance, summary.autocorrelation) == (0, 0, None)
    assert membrane_updates(evaluation) == 4  # the first step always counts
    nothing = membrane_summary(None)
    assert (nothing.mean, nothing.variance, nothing.autocorrelation) == (None, None, None)


@pytest.mark.parametrize(
    ("model", "states"),
    [({}, 1), ({"neuron": "synaptic"}, 2), ({"neuron": "adlif"}, 2), ({"network": "recurrent"}, 1)],
    ids=str,
)
def test_state_bytes_are_the_neurons_states_and_the_readouts(model, states, data):
    built = network(**model)
    evaluation = evaluate(built, *data, CLASSES)
    assert state_bytes(built, evaluation) == 4 * (states * 15 + 2 * CLASSES)


def test_a_neuron_of_ones_own_has_unknown_states(data, monkeypatch):
    class Threshold(torch.nn.Module):
        def forward(self, current: Tensor) -> Tensor:
            return (current > 0).to(current)

    built = network(hidden="4")
    built.neuron[0] = Threshold()
    evaluation = evaluate(built, *data, CLASSES)
    assert state_bytes(built, evaluation) is None
    assert membrane_updates(evaluation) is None
    assert evaluation.firing.rate() > 0


def test_gradient_bytes_are_of_trained_parameters_alone():
    built = network()
    weights = 6 * 10 + 10 + 10 * 5 + 5 + 5 * 3 + 3
    assert gradient_bytes(built) == 4 * weights  # β and θ are fixed
    assert gradient_bytes(network(**{"learn-beta": True})) == 4 * (weights + 15)


def test_peak_memory_is_what_the_kernel_says():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc here")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory_bytes() == pytest.approx(1024 * int(line.split()[1]), rel=0.05)
