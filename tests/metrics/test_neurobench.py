"""Costs against NeuroBench's own package, on one model and the same clips.

The reference is a snnTorch network with our network's weights, run step by step by
`neurobench.models.SNNTorchModel`. docs/metrics.md says where the definitions differ.
"""

import pytest
import snntorch as snn
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
from neurobench.models import SNNTorchModel, TorchModel
from rounding import make_products_exact, on_grid
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fnl.config import ModelGroup
from fnl.metrics.sparsity import Sparsity, sparsity
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.snn.neurons.recurrent import RecurrentLIF

CLIPS, STEPS, FEATURES, CLASSES = 12, 15, 9, 4
STATIC = [ConnectionSparsity, Footprint]
WORKLOAD = [ActivationSparsity, MembraneUpdates, SynapticOperations]


class StepByStep(nn.Module):
    """Our network's synapses and normalisation between snnTorch's neurons."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.linear, self.norm = network.linear, network.norm
        self.neuron = nn.ModuleList(snntorch_neuron(neuron) for neuron in network.neuron)
        self.readout = network.readout.linear

    def reset(self) -> None:
        """Forget the last batch; snnTorch's own reset does not look into a ModuleList."""
        for neuron in self.neuron:
            neuron.reset_mem()

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        signal = inputs
        for linear, norm, neuron in zip(self.linear, self.norm, self.neuron, strict=True):
            signal = neuron(norm(linear(signal)))
        return self.readout(signal), None


def snntorch_neuron(neuron: nn.Module) -> nn.Module:
    options = {"threshold": float(neuron.threshold), "init_hidden": True}
    if not isinstance(neuron, RecurrentLIF):
        return snn.Leaky(float(neuron.beta), reset_mechanism="subtract", **options)
    reference = snn.RLeaky(float(neuron.beta), linear_features=len(neuron.weight), **options)
    with torch.no_grad():
        reference.recurrent.weight.copy_(neuron.weight)
        reference.recurrent.bias.zero_()
    return reference


def pruned(**model: object) -> SpikingNetwork:
    options = {"hidden": "16,8", "threshold": 0.5, **model}
    network = build_network(ModelGroup.model_validate(options), FEATURES, CLASSES)
    initialise(network, 0)
    make_products_exact(network)  # spikes are those of a step at a time
    generator = torch.Generator().manual_seed(1)
    recurrent = [n.weight for n in network.neuron if isinstance(n, RecurrentLIF)]
    with torch.no_grad():
        for weight in (*network.synapses(), *recurrent):
            weight.mul_(torch.rand(weight.shape, generator=generator) > 0.3)
    return network


def clips(*, spikes: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = on_grid(2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))
    features[torch.rand(features.shape, generator=generator) < 0.4] = 0
    return features.sign() if spikes else features, torch.arange(CLIPS) % CLASSES


def run_neurobench(model: object, data: tuple[Tensor, Tensor], batch: int) -> dict:
    loader = DataLoader(TensorDataset(*data), batch_size=batch)
    with torch.no_grad():
        benchmark = Benchmark(model, loader, [], [], [STATIC, WORKLOAD])
        return benchmark.run(quiet=True)


def both(
    network: SpikingNetwork, data: tuple[Tensor, Tensor], batch: int = CLIPS
) -> tuple[Sparsity, dict]:
    ours = sparsity(network, evaluate(network, *data, CLASSES))
    return ours, run_neurobench(SNNTorchModel(StepByStep(network)), data, batch)


@pytest.mark.parametrize("normalisation", ["none", "layer"])
@pytest.mark.parametrize("spikes", [False, True], ids=["currents", "spikes"])
def test_the_definitions_that_agree_agree_to_the_last_digit(normalisation, spikes):
    network = pruned(normalisation=normalisation)
    network.encoder.spiking = spikes
    ours, theirs = both(network, clips(spikes=spikes))
    operations = theirs["SynapticOperations"]
    assert ours.effective_acs == pytest.approx(operations["Effective_ACs"], rel=1e-15)
    assert ours.effective_macs == operations["Effective_MACs"]
    assert (operations["Effective_MACs"] > 0) != spikes
    assert ours.dense_operations == operations["Dense"]
    assert ours.membrane_updates == theirs["MembraneUpdates"]
    assert ours.activation_sparsity == pytest.approx(theirs["ActivationSparsity"], abs=1e-15)
    assert 0.05 < theirs["ActivationSparsity"] < 0.98
    # normalised currents move every membrane at every step, others leave some where they were
    assert (theirs["MembraneUpdates"] < STEPS * 24) == (normalisation == "none")


def test_batches_make_no_difference():
    network = pruned()
    ours, theirs = both(network, clips(), batch=5)
    assert ours.membrane_updates == theirs["MembraneUpdates"]
    assert ours.effective_acs == pytest.approx(theirs["SynapticOperations"]["Effective_ACs"])
    assert ours.activation_sparsity == pytest.approx(theirs["ActivationSparsity"], abs=1e-12)


@pytest.mark.parametrize("normalisation", ["none", "layer"])
def test_connection_sparsity_is_theirs_before_they_round_it(normalisation):
    ours, theirs = both(pruned(normalisation=normalisation), clips())
    assert 0.2 < ours.connection_sparsity < 0.4
    assert round(ours.connection_sparsity, 4) == pytest.approx(theirs["ConnectionSparsity"])


def test_footprint_is_theirs_and_a_snntorch_network_has_other_buffers():
    network = pruned()
    ours = sparsity(network, evaluate(network, *clips(), CLASSES)).footprint_bytes
    assert ours == run_neurobench(TorchModel(network), clips(), CLIPS)["Footprint"]
    reference = StepByStep(network)
    state = sum(b.numel() * b.element_size() for n in reference.neuron for b in n.buffers())
    theirs = run_neurobench(SNNTorchModel(reference), clips(), CLIPS)["Footprint"]
    decays_and_thresholds = sum(4 * p.numel() for n in network.neuron for p in n.parameters())
    assert theirs - state == ours - decays_and_thresholds


def test_a_silent_network_updates_membranes_but_sends_nothing():
    network = pruned(threshold=1e6)
    ours, theirs = both(network, clips())
    assert ours.effective_acs == theirs["SynapticOperations"]["Effective_ACs"] == 0
    assert ours.activation_sparsity == theirs["ActivationSparsity"] == 1
    assert ours.membrane_updates == theirs["MembraneUpdates"] > 0


def test_recurrent_spikes_count_alike_but_the_first_steps_dense_recurrence_does_not():
    network = pruned(network="recurrent", hidden="10")
    ours, theirs = both(network, clips())
    operations = theirs["SynapticOperations"]
    last = evaluate(network, *clips(), CLASSES).activity[1][-1]
    assert last.sum() > 0
    assert ours.effective_acs == pytest.approx(operations["Effective_ACs"], rel=1e-12)
    # NeuroBench multiplies the zeros that recurrence hears before the first step, too
    assert operations["Dense"] - ours.dense_operations == 10 * 10
    assert ours.membrane_updates == theirs["MembraneUpdates"]
