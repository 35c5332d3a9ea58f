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

from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

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
        ConfigError: if the package `nir` is missing, or naming what NIR cannot express.
    """
    nir = _package()
    if not isinstance(network, SpikingNetwork):
        raise ConfigError(
            f"NIR export is of a SpikingNetwork, not of a {type(network).__name__} of one's own: "
            "its graph is not known"
        )
    graph = _graph(nir, network, integrator)
    graph.metadata.update(frame_hop_ms=frame_hop_ms)
    write_atomically(path, lambda temporary: nir.write(str(temporary), graph))


def _package() -> ModuleType:
    try:
        import nir  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError("export to NIR needs the package nir: pip install nir") from error
    return nir


def _graph(nir: ModuleType, network: SpikingNetwork, integrator: bool) -> Any:
    """Return the `nir.NIRGraph` of a network."""
    if network.model.encoding != "direct":
        raise ConfigError(
            f"model.encoding = {network.model.encoding!r} is not part of a NIR graph, whose input "
            "would be taken for the features: train with model.encoding=direct"
        )
    first = network.linear[0]
    nodes: dict[str, Any] = {"input": nir.Input(input_type=np.array([_linear(first).in_features]))}
    layers = zip(network.linear, network.norm, network.neuron, strict=True)
    for index, (linear, norm, neuron) in enumerate(layers):
        if not isinstance(norm, nn.Identity):
            raise ConfigError(
                f"layer {index} has a {type(norm).__name__}, which NIR cannot express: "
                "train with model.normalisation=none"
            )
        nodes[f"linear_{index}"] = _synapses(nir, _linear(linear))
        nodes[f"neuron_{index}"] = _neurons(nir, neuron, index, _linear(linear).out_features)
    readout = network.readout
    nodes["readout"] = _synapses(nir, readout.linear)
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


def _linear(layer: nn.Module) -> nn.Linear:
    if not isinstance(layer, nn.Linear):
        raise ConfigError(f"export to NIR takes linear layers, not {type(layer).__name__}")
    return layer


def _synapses(nir: ModuleType, layer: nn.Linear) -> Any:
    weight = layer.weight.detach().cpu().numpy()
    if layer.bias is None:
        return nir.Linear(weight=weight)
    return nir.Affine(weight=weight, bias=layer.bias.detach().cpu().numpy())


def _neurons(nir: ModuleType, neuron: nn.Module, index: int, features: int) -> Any:
    """Return the `nir.LIF` of one layer.

    Raises:
        ConfigError: if the neurons, their reset, β or θ have no exact `nir.LIF`.
    """
    if type(neuron) is not LIF:
        raise ConfigError(f"layer {index}: export to NIR takes LIF, not {type(neuron).__name__}")
    reset = neuron.dynamics.reset
    if reset is not Reset.ZERO:
        raise ConfigError(
            f"layer {index} has reset {reset.name.lower()!r}, which nir.LIF cannot express "
            "(it always sets the membrane to v_reset): train with reset zero"
        )
    beta = np.broadcast_to(neuron.decay().detach().double().cpu().numpy(), features)
    threshold = np.broadcast_to(neuron.threshold.detach().double().cpu().numpy(), features)
    if (beta >= 1).any():
        raise ConfigError(f"layer {index} has beta 1, an infinite NIR time constant: use beta < 1")
    if (threshold <= 0).any():
        raise ConfigError(f"layer {index} has a threshold of at most 0, at which NIR fires at rest")
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
    if beta >= 1:
        raise ConfigError("the readout has beta 1, an infinite NIR time constant: use beta < 1")
    tau = np.full(classes, STEP_SECONDS / (1 - beta))
    return nir.LI(tau=tau, r=tau / STEP_SECONDS, v_leak=np.zeros(classes))
