"""Exported graphs, loaded by other simulators, against our own spikes."""

import numpy as np
import pytest
import torch
from rounding import make_products_exact, on_grid
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.interchange.nir_export import STEP_SECONDS, export_nir
from fnl.snn.network import SpikingNetwork, build_network
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.synaptic import Synaptic

nir = pytest.importorskip("nir", reason="the package nir is not installed")

INPUTS, CLASSES, STEPS = 12, 5, 60


def network(beta: float | Tensor = 0.85, *, reset_delay: bool = True) -> SpikingNetwork:
    """Return a network that NIR can express, its weights in ±1, sums of their products exact."""
    model = ModelGroup(hidden="40,30", normalisation="none", beta=0.85, threshold=1.0)
    torch.manual_seed(0)
    result = build_network(model, INPUTS, CLASSES)
    # no membrane lies on a threshold off the grid, where SpikingJelly fires and we do not
    result.neuron = nn.ModuleList(
        LIF(beta, threshold, reset="zero", reset_delay=reset_delay) for threshold in (1.01, 0.76)
    )
    with torch.no_grad():
        for weight in result.synapses():
            weight.uniform_(-1, 1)
    make_products_exact(result)
    return result.double()


def clips(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return on_grid(0.5 * torch.randn(8, STEPS, INPUTS, generator=generator)).to(dtype)


def our_layers(net: SpikingNetwork, signal: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the spikes of each layer and the read-out's current, [B, T, F]."""
    spikes = []
    for linear, neuron in zip(net.linear, net.neuron, strict=True):
        signal = neuron(linear(signal)).detach()
        spikes.append(signal)
    return spikes, net.readout.linear(signal).detach()


def assert_same_spikes(theirs: dict[str, Tensor], output: Tensor, net: SpikingNetwork) -> None:
    inputs = clips(output.dtype)
    spikes, current = our_layers(net, inputs)
    for index, expected in enumerate(spikes):
        assert expected.sum() > 1500
        assert 0.05 < expected.mean() < 0.7
        assert torch.equal(theirs[f"neuron_{index}"], expected)
    assert torch.allclose(output, current, atol=1e-5)
    shares, total = net.readout.time_shares(output)
    scores = total * shares @ output
    assert torch.allclose(scores, net(inputs).detach(), atol=1e-5)


def listen(graph: nn.Module) -> dict[str, list[Tensor]]:
    """Return where the outputs of the neurons of a loaded graph go, step by step."""
    heard: dict[str, list[Tensor]] = {}
    for name, module in graph.named_modules():
        if name.startswith("neuron_") and "." not in name:
            heard[name] = []

            def hook(_module, _inputs, result, name=name):
                heard[name].append(result[0] if isinstance(result, tuple) else result)

            module.register_forward_hook(hook)
    return heard


def run(graph: nn.Module, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    """Step a loaded graph through all clips; return the neurons' spikes and its output."""
    heard, outputs, state = listen(graph), [], None
    with torch.no_grad():
        for t in range(STEPS):
            output, state = graph(clips(dtype)[:, t], state)
            outputs.append(output)
    assert len(heard) == 2
    return {name: torch.stack(steps, 1) for name, steps in heard.items()}, torch.stack(outputs, 1)


@pytest.mark.parametrize("each", [False, True], ids=["a beta a layer", "a beta a neuron"])
@pytest.mark.parametrize("reset_delay", [True, False])
def test_snntorch_loads_the_same_spikes(tmp_path, reset_delay, each):
    pytest.importorskip("nirtorch", reason="the package nirtorch is not installed")
    from snntorch.import_nir import import_from_nir

    net = network(reset_delay=reset_delay)
    if each:
        net.neuron = nn.ModuleList(
            LIF(torch.linspace(0.6, 0.95, size), 0.76, reset="zero", reset_delay=reset_delay)
            for size in (40, 30)
        )
    net = net.float()  # its spikes are float32 whatever the input
    export_nir(net, tmp_path / "net.nir")
    loaded = import_from_nir(nir.read(tmp_path / "net.nir")).float()
    assert_same_spikes(*run(loaded, torch.float32), net)


def test_standard_features_are_folded_into_the_synapses(tmp_path):
    net = network()
    readout = LeakyReadout(30, CLASSES, 0.85, standardise=True)
    readout.linear.load_state_dict(net.readout.linear.state_dict())
    net.readout = readout.double()
    scores = net(clips()).detach()
    readout.fit_standard([net.spike_trains(clips())[-1].double()])
    assert not torch.equal(readout.standard.gain, torch.ones(30).double())
    export_nir(net, tmp_path / "net.nir")
    node = nir.read(tmp_path / "net.nir").nodes["readout"]
    spikes = net.spike_trains(clips())[-1].detach().double().numpy()
    current = torch.from_numpy(spikes @ node.weight.T + node.bias)
    shares, total = readout.time_shares(current)
    torch.testing.assert_close(total * shares @ current, scores.double())


@pytest.mark.parametrize("reset_delay", [True, False])
def test_spikingjelly_loads_the_same_spikes(tmp_path, reset_delay):
    exchange = pytest.importorskip(
        "spikingjelly.activation_based.nir_exchange",
        reason="the package spikingjelly is not installed, or a package it needs",
        exc_type=ImportError,
    )
    net = network(reset_delay=reset_delay)
    export_nir(net, tmp_path / "net.nir")
    loaded = exchange.import_from_nir(tmp_path / "net.nir", dtype=torch.float64)
    assert_same_spikes(*run(loaded, torch.float64), net)


def euler(node, current: np.ndarray) -> np.ndarray:
    """Step a `nir.LIF` by the equations of the NIR paper, forward Euler; spikes [B, T, F]."""
    spikes = np.zeros_like(current)
    v = np.zeros(current.shape[::2])
    for t in range(current.shape[1]):
        v = v + STEP_SECONDS / node.tau * (node.v_leak - v + node.r * current[:, t])
        fired = v > node.v_threshold
        spikes[:, t] = fired
        v = np.where(fired, node.v_reset, v)
    return spikes


def test_the_file_has_the_equations_of_nir_one_beta_and_threshold_a_neuron(tmp_path):
    net = network()
    net.neuron[0] = LIF(
        torch.linspace(0.0, 0.98, 40), torch.linspace(0.5, 1.5, 40), reset="zero"
    ).double()
    export_nir(net, tmp_path / "net.nir", integrator=True, frame_hop_ms=20.0)
    graph = nir.read(tmp_path / "net.nir")
    names = ["input", "linear_0", "neuron_0", "linear_1", "neuron_1", "readout", "integrator"]
    assert graph.edges == list(zip(names, [*names[1:], "output"], strict=True))
    spikes, current = our_layers(net, clips())
    signal = clips().numpy()
    for index, expected in enumerate(spikes):
        linear = graph.nodes[f"linear_{index}"]
        signal = euler(graph.nodes[f"neuron_{index}"], signal @ linear.weight.T + linear.bias)
        assert np.array_equal(signal, expected.numpy())
    integrator, v = graph.nodes["integrator"], np.zeros((len(signal), CLASSES))
    scores = np.zeros_like(v)
    for t in range(STEPS):
        drive = integrator.r * current[:, t].numpy()
        v = v + STEP_SECONDS / integrator.tau * (integrator.v_leak - v + drive)
        scores += v / STEPS
    assert np.allclose(scores, net(clips()).detach().numpy())
    assert graph.metadata["frame_hop_ms"] == 20.0
    assert graph.metadata["readout_beta"] == net.readout.beta


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda net: net.norm.__setitem__(1, nn.LayerNorm(30)), "model.normalisation=none"),
        (lambda net: net.neuron.__setitem__(0, LIF(0.9)), "layer 0 has reset subtract"),
        (lambda net: net.neuron.__setitem__(1, LIF(0.9, reset="none")), "layer 1 has reset none"),
        (lambda net: net.neuron.__setitem__(0, LIF(1.0, reset="zero")), "beta 1, an infinite"),
        (lambda net: net.neuron.__setitem__(0, LIF(0.9, -1.0, reset="zero")), "fires at rest"),
        (lambda net: net.neuron.__setitem__(0, Synaptic(0.5, 0.9)), "Synaptic neurons"),
    ],
)
def test_what_nir_cannot_express_is_refused_and_nothing_is_written(tmp_path, spoil, message):
    net = network()
    spoil(net)
    with pytest.raises(ConfigError, match=message):
        export_nir(net, tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())


EXPORTABLE = {"hidden": "8", "normalisation": "none", "reset": "zero"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"layers 0, 1 have LayerNorm.*model\.normalisation=none.*model\.reset=zero"),
        ({**EXPORTABLE, "encoding": "delta"}, r"model\.encoding=direct"),
        ({**EXPORTABLE, "network": "delays"}, "DelayedLinear in place"),
    ],
)
def test_networks_of_a_configuration_are_refused_by_name(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        export_nir(build_network(ModelGroup(**keys), INPUTS, CLASSES), tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())
