"""Sparsity, synaptic operations and energy, as NeuroBench defines them. Pure functions.

NeuroBench (Yik et al. 2025, arXiv 2304.04640): an operation is *effective* if neither the
activation nor the weight is zero; it is an accumulate (AC) where the activations are spikes (−1, 0
or 1) and a multiply-accumulate (MAC) otherwise. All counts are means per clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fnl.metrics.fan_out import fan_outs
from fnl.metrics.memory import membrane_updates
from fnl.snn.evaluation import Evaluation
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.spiking_layer import recurrent_weight

MAC_PICOJOULES = 4.6
AC_PICOJOULES = 0.9
"""32-bit float operations at 45 nm (Horowitz 2014)."""


@dataclass(frozen=True)
class Sparsity:
    """Cost indicators of one network on one set of clips; None where they do not apply.

    Operations are counted in a `SpikingNetwork` whose maps are linear: elsewhere it is not known
    which values meet which synapses.

    Attributes:
        activation_sparsity: share of (clip, step, neuron) that sends nothing.
        effective_acs: accumulates per clip.
        effective_macs: multiply-accumulates per clip.
        energy_nj: energy per clip in nanojoules.
        footprint_bytes: bytes of parameters and buffers.
        connection_sparsity: share of synapses whose weight is zero; biases are no synapses.
        dense_operations: operations per clip if every activation and every weight counted.
        membrane_updates: changes of a membrane per clip; None where they were not counted.
    """

    activation_sparsity: float | None
    effective_acs: float | None
    effective_macs: float | None
    energy_nj: float | None
    footprint_bytes: int
    connection_sparsity: float | None
    dense_operations: float | None
    membrane_updates: float | None


def footprint_bytes(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers."""
    tensors = (*network.parameters(), *network.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def connection_sparsity(network: SpikingNetwork) -> float:
    """Return the share of zero weights among all synapses, recurrent ones included."""
    recurrent = [recurrent_weight(neuron) for neuron in network.neuron]
    weights = [*network.synapses(), *(weight for weight in recurrent if weight is not None)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)


def sparsity(
    network: nn.Module,
    evaluation: Evaluation,
    mac_picojoules: float = MAC_PICOJOULES,
    ac_picojoules: float = AC_PICOJOULES,
) -> Sparsity:
    """Return the cost indicators of `network` on the clips of `evaluation`."""
    operations = _operations(network, evaluation)
    macs, acs, dense = operations or (None, None, None)
    energy = None
    if macs is not None and acs is not None:
        energy = (macs * mac_picojoules + acs * ac_picojoules) / 1000
    built = isinstance(network, SpikingNetwork)
    return Sparsity(
        activation_sparsity=_activation_sparsity(evaluation),
        effective_acs=acs,
        effective_macs=macs,
        energy_nj=energy,
        footprint_bytes=footprint_bytes(network),
        connection_sparsity=connection_sparsity(network) if built else None,
        dense_operations=dense,
        membrane_updates=membrane_updates(evaluation),
    )


def _activation_sparsity(evaluation: Evaluation) -> float | None:
    firing = evaluation.firing
    if not firing.neurons:
        return None
    if firing.spiking:
        return 1.0 - firing.rate()
    if not evaluation.activity:
        return None
    # a read-out may be given other layers' values before those of the last
    layers = zip(evaluation.activity[1:], firing.neurons, strict=True)
    active = sum(float(layer[:, -neurons:].sum()) for layer, neurons in layers)
    return 1.0 - active / (firing.steps * sum(firing.neurons))


def _operations(network: nn.Module, evaluation: Evaluation) -> tuple[float, float, float] | None:
    """Return effective MACs, effective ACs and dense operations per clip, if they are known."""
    if not isinstance(network, SpikingNetwork):
        return None
    steps = evaluation.firing.steps
    features = [layer.shape[1] for layer in evaluation.activity]
    reached = fan_outs(network, steps, features)
    dense = fan_outs(network, steps, features, dense=True)
    if reached is None or dense is None:
        return None
    inputs, *spikes = (
        float((active * synapses).sum())
        for active, synapses in zip(evaluation.activity, reached, strict=True)
    )
    macs = 0.0 if network.encoder.spiking else inputs
    acs = inputs if network.encoder.spiking else 0.0
    if network.spikes:
        acs = sum(spikes) + acs
    else:
        macs += sum(spikes)
    return macs, acs, float(sum(layer.sum() for layer in dense))
