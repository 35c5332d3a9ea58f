"""Networks as NIR graphs, for other simulators and neuromorphic hardware.

NIR (Pedersen et al. 2024, Nature Communications 15:8122) describes neurons in continuous time:

    τ dv/dt = (v_leak − v) + R I,    a spike where v > v_threshold, then v = v_reset

One step of dt by forward Euler is v ← (1 − dt/τ) v + (R dt/τ) I, so that our neurons are

    τ = dt / (1 − β),    R = τ / dt,    v_leak = v_reset = 0,    v_threshold = θ

which is how snnTorch 1.0 and SpikingJelly 2 read a `nir.LIF`, both at dt = 0.1 ms whatever the
step of the features. The time step is a unit here, not a duration: the file's metadata has both.

What NIR cannot express is refused, never approximated: `nir.LIF` always resets to `v_reset`, so
reset by subtraction (which snnTorch's own exporter turns into a reset to zero without a word),
no reset, and normalisation of the currents have no exact NIR form that these readers take.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.runtime.atomic import write_atomically
from fnl.snn.kernels.dynamics import Reset
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.lif import LIF

STEP_SECONDS = 1e-4
"""The dt that readers of NIR assume."""


def export_nir(
    network: nn.Module, path: Path, *, integrator: bool = False, frame_hop_ms: float = 0.0
) -> None:
    """Write `network` as a NIR graph (HDF5): input → (linear → LIF)… → linear → output.

    The output is the read-out's input current W S[t] + b at every step. The scores are the mean
    over time of its leaky integration, with the decay `readout_beta` of the graph's metadata;
    `integrator` adds that integration as a `nir.LI`, which snnTorch and SpikingJelly do not read.

    A reset to zero acts in NIR in the spike's own step, here (and in snnTorch) by default at the
    start of the next: the spikes are the same. SpikingJelly fires at v ≥ θ instead of v > θ, and
    takes one β > 0 and θ a layer; snnTorch's reader takes one θ a layer.

    Args:
        network: of linear layers and LIF neurons.
        path: the file to write.
        integrator: whether the graph ends in the integrator instead of before it.
        frame_hop_ms: duration of a step of the features in ms, for the metadata; 0 if unknown.

    Raises:
        ConfigError: if the package `nir` is missing, or naming all that NIR cannot express.
    """
    nir = _package()
    if obstacles := nir_obstacles(network, integrator=integrator):
        raise ConfigError(f"NIR cannot hold this network: {'; '.join(obstacles)}")
    graph = _graph(nir, network, integrator)
    graph.metadata.update(frame_hop_ms=frame_hop_ms)
    write_atomically(path, lambda temporary: nir.write(str(temporary), graph))


def nir_obstacles(network: nn.Module, *, integrator: bool = False) -> list[str]:
    """Return all that keeps a network from being a NIR graph, and what would be right.

    A configuration's network need not be trained to be asked.
    """
    if not isinstance(network, SpikingNetwork):
        return [f"{type(network).__name__} is a network of one's own, whose graph is not known"]
    found: list[str] = []
    if network.model.encoding != "direct":
        found.append(
            f"model.encoding = {network.model.encoding} is no part of a graph, whose input would "
            "be taken for the features: model.encoding=direct"
        )
    if network.model.readout_layers == "all":
        found.append("the read-out is given the spikes of all layers: model.readout-layers=last")
    of_layers: dict[str, list[int]] = {}
    for index, layer in enumerate(zip(network.linear, network.norm, network.neuron, strict=True)):
        for obstacle in _obstacles_of_layer(*layer):
            of_layers.setdefault(obstacle, []).append(index)
    for obstacle, layers in of_layers.items():
        one = len(layers) == 1
        found.append(
            f"layer{'' if one else 's'} {', '.join(map(str, layers))} ha{'s' if one else 've'} "
            f"{obstacle}"
        )
    if integrator and network.readout.beta >= 1:
        found.append("the read-out has beta 1, an infinite NIR time constant: model.beta below 1")
    return found


def _obstacles_of_layer(linear: nn.Module, norm: nn.Module, neuron: nn.Module) -> Iterator[str]:
    if type(linear) is not nn.Linear:
        yield f"{type(linear).__name__} in place of a linear map: model.network=feedforward"
    if not isinstance(norm, nn.Identity):
        yield f"{type(norm).__name__}, which depends on its input: model.normalisation=none"
    if type(neuron) is not LIF:
        yield f"{type(neuron).__name__} neurons: model.neuron=lif"
        return
    if neuron.dynamics.reset is not Reset.ZERO:
        yield (
            f"reset {neuron.dynamics.reset.name.lower()}, where nir.LIF always sets the membrane "
            "to v_reset: model.reset=zero"
        )
    if (neuron.decay() >= 1).any():
        yield "beta 1, an infinite NIR time constant: model.beta below 1"
    if (neuron.threshold <= 0).any():
        yield "a threshold of at most 0, at which NIR fires at rest"


def _package() -> ModuleType:
    try:
        import nir  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError("export to NIR needs the package nir: pip install nir") from error
    return nir


def _graph(nir: ModuleType, network: Any, integrator: bool) -> Any:
    """Return the `nir.NIRGraph` of a network without obstacles."""
    nodes: dict[str, Any] = {"input": nir.Input(np.array([network.linear[0].in_features]))}
    layers = zip(network.linear, network.neuron, strict=True)
    for index, (linear, neuron) in enumerate(layers):
        nodes[f"linear_{index}"] = _synapses(nir, linear.weight, linear.bias)
        nodes[f"neuron_{index}"] = _neurons(nir, neuron, linear.out_features)
    readout = network.readout
    nodes["readout"] = _synapses(nir, *readout.synapses())
    if integrator:
        nodes["integrator"] = _integrator(nir, readout.beta, readout.linear.out_features)
    nodes["output"] = nir.Output(output_type=np.array([readout.linear.out_features]))
    names = list(nodes)
    metadata = {
        "readout_beta": readout.beta,
        "readout": "scores are the mean over steps of u[t] = readout_beta u[t-1] + output[t]",
        "reset": "zero",
        "step_seconds": STEP_SECONDS,
    }
    if integrator:
        metadata["readout"] = "scores are the mean over steps of output[t]"
    edges = list(pairwise(names))
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata)


def _synapses(nir: ModuleType, weight: Tensor, bias: Tensor | None) -> Any:
    if bias is None:
        return nir.Linear(weight=weight.numpy(force=True))
    return nir.Affine(weight=weight.numpy(force=True), bias=bias.numpy(force=True))


def _neurons(nir: ModuleType, neuron: Any, features: int) -> Any:
    """Return the `nir.LIF` of one layer."""
    beta = np.broadcast_to(neuron.decay().detach().double().cpu().numpy(), features)
    threshold = np.broadcast_to(neuron.threshold.detach().double().cpu().numpy(), features)
    tau = STEP_SECONDS / (1 - beta)
    return nir.LIF(
        tau=tau,
        r=tau / STEP_SECONDS,
        v_leak=np.zeros(features),
        v_threshold=threshold.copy(),
        v_reset=np.zeros(features),
    )


def _integrator(nir: ModuleType, beta: float, classes: int) -> Any:
    """Return the `nir.LI` of the read-out."""
    tau = np.full(classes, STEP_SECONDS / (1 - beta))
    return nir.LI(tau=tau, r=tau / STEP_SECONDS, v_leak=np.zeros(classes))
