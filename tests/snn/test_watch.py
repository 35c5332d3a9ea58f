"""Firing rates seen from outside are those that neurons of ours report of themselves."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.evaluation import evaluate
from fnl.snn.network import spike_trains, spiking_layers, tracer
from fnl.snn.neurons.lif import LIF
from tests import own_networks

FEATURES, CLASSES, STEPS = 12, 4, 20


def clips(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return 2 * torch.randn(count, STEPS, FEATURES, generator=generator)


def network(name: str) -> nn.Module:
    if name == "spikingjelly" and find_spec("spikingjelly") is None:
        pytest.skip("spikingjelly is not installed")
    torch.manual_seed(0)
    return getattr(own_networks, name)(ModelGroup(), FEATURES, CLASSES)


class Layer(nn.Module):
    """One linear layer and neurons of ours, or snnTorch's in a time loop."""

    def __init__(self, neuron: nn.Module, repeat: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.neuron, self.repeat = nn.Linear(FEATURES, 8), neuron, repeat

    def forward(self, x: Tensor) -> Tensor:
        current = self.fc(x)
        if isinstance(self.neuron, LIF):
            return self.neuron(current).sum(1)
        mem, total = torch.zeros_like(current[:, 0]), torch.zeros_like(current[:, 0])
        for step in list(current.unbind(1)) * self.repeat:
            spike, mem = self.neuron(step, mem)
            total = total + spike
        return total


@pytest.mark.parametrize("name", own_networks.NETWORKS)
def test_layers_are_named_and_have_rates(name):
    built, data = network(name), clips()
    assert set(spiking_layers(built, data)) == own_networks.NETWORKS[name]
    found = evaluate(built, data, torch.arange(5) % CLASSES, CLASSES)
    rates = found.firing.layer_rates()
    assert len(rates) == len(own_networks.NETWORKS[name])
    assert ((rates > 0) & (rates < 1)).all()
    assert found.clip_rates.shape == (5, len(rates))
    assert found.clip_rates.mean(0) == pytest.approx(rates)
    assert len(spike_trains(built, data)) == len(rates)


def test_statistics_are_those_of_the_same_neurons_of_ours():
    traces = [
        tracer(Layer(neuron).eval(), clips())(clips(), True)
        for neuron in (LIF(0.9, 0.5), snn.Leaky(0.9, threshold=0.5))
    ]
    ours, theirs = (trace.statistics[0] for trace in traces)
    assert torch.equal(traces[0].counts[0], traces[1].counts[0].int())
    assert torch.allclose(ours.moments, theirs.moments, rtol=1e-5)
    assert ours.membrane_updates == theirs.membrane_updates


def test_a_rate_is_of_the_steps_that_neurons_make():
    once, twice = (
        evaluate(Layer(snn.Leaky(0.0, threshold=0.5), n), clips(), torch.zeros(5).long(), 8)
        for n in (1, 2)
    )
    assert twice.firing.rate() == pytest.approx(once.firing.rate(), rel=0.02)


def test_spikes_are_counted_once_however_often_clips_are_evaluated():
    built, labels = network("tutorial6"), torch.zeros(5).long()
    first, second = (evaluate(built, clips(), labels, CLASSES) for _ in range(2))
    assert first.loss == second.loss
    assert (first.clip_rates == second.clip_rates).all()


def test_a_neuron_of_ones_own_is_seen_if_it_says_so():
    built = own_networks.Tutorial5(FEATURES, CLASSES)
    built.spiking = False
    own = nn.Sequential(nn.Linear(FEATURES, 8), OwnNeuron(), nn.Linear(8, CLASSES), Mean())
    assert spiking_layers(own, clips()) == ["1"]
    expected = own[1](own[0](clips())).mean().item()
    found = evaluate(own, clips(), torch.zeros(5).long(), CLASSES)
    assert found.firing.rate() == pytest.approx(expected)


class OwnNeuron(nn.Module):
    spiking = True
    all_steps = True

    def forward(self, current: Tensor) -> Tensor:
        return (current > 0.5).to(current)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def test_spikes_whose_clips_are_not_to_be_told_are_not_counted():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.neuron = nn.Linear(FEATURES, CLASSES), snn.Leaky(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.fc(x.flatten(0, 1)))[0].unflatten(0, x.shape[:2]).mean(1)

    assert spiking_layers(Flat(), clips()) == []
    # not even where they are as many as clips
    found = evaluate(Flat(), clips(STEPS), torch.zeros(STEPS).long(), CLASSES)
    assert found.clip_rates.shape == (STEPS, 0)
