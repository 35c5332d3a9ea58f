"""How many synapses a value meets on its way through a network. Pure functions.

Maps of a user's own are asked with other numbers than they were written for. What cannot be counted
there is not counted: a measure never ends a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from fnl.device import device_of
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.spiking_layer import recurrent_weight


def fan_outs(
    network: SpikingNetwork, steps: int, features: Sequence[int], *, dense: bool = False
) -> list[NDArray[np.float64]] | None:
    """Return, for each signal of the network, the non-zero synapses each of its values meets.

    None if it has a map that `synapses_met` cannot count. Signals are those of `Trace.signals`. A
    spike of a recurrent layer meets its recurrent synapses, too, unless it falls in the last step.
    The read-out's synapses count at every step.

    Args:
        network: any network.
        steps: T.
        features: F_l of each signal.
        dense: count all synapses, also those of weight zero.

    Returns:
        Counts [T, F_l], whole numbers.
    """
    maps = (*network.linear, network.readout.linear)
    reached: list[NDArray[np.float64]] = []
    for layer, size in zip(maps, features, strict=True):
        met = synapses_met(layer, steps, size, dense=dense)
        if met is None:
            return None
        reached.append(met)
    for spikes, neuron in zip(reached[1:], network.neuron, strict=True):
        if (weight := recurrent_weight(neuron)) is not None:
            there = torch.ones_like(weight) if dense else weight != 0
            # a read-out may be given other layers' spikes before those of the last
            spikes[:-1, -len(there) :] += there.sum(0).numpy(force=True)
    return reached


def synapses_met(
    any_map: nn.Module, steps: int, features: int, *, dense: bool = False
) -> NDArray[np.float64] | None:
    """Return `fan_out` of a map; None of one that is not linear or has other numbers in it."""
    if type(any_map).__module__.partition(".")[0] == "fnl" or type(any_map) is nn.Linear:
        return fan_out(any_map, steps, features, dense=dense)
    state = HiddenState(any_map)
    try:
        silent, loud = (
            fan_out(any_map, steps, features, dense=dense, value=value) for value in (0.0, 1.0)
        )
    except Exception:
        return None
    finally:
        state.rest()
    counted = np.array_equal(silent, loud) and (silent >= 0).all() and (silent % 1 == 0).all()
    return silent if counted else None


def fan_out(
    linear_map: nn.Module, steps: int, features: int, *, dense: bool = False, value: float = 0.0
) -> NDArray[np.float64]:
    """Return the non-zero synapses of a linear map that each of its inputs meets, [T, F].

    A synapse that a convolution shares over time or frequency counts at every place, and at the
    edges only as far as the output reaches. That is the map's transpose on ones, with each
    non-zero weight (`dense`: every weight) replaced by 1 and biases left out, so it holds for any
    linear map, whatever the `value` of its inputs; delays are as in evaluation if the map is in
    evaluation mode.
    """
    with torch.enable_grad():
        inputs = torch.full((1, steps, features), value, dtype=torch.float64)
        inputs = inputs.to(device_of(linear_map)).requires_grad_()
        reached = functional_call(linear_map, _zeros_and_ones(linear_map, dense), (inputs,)).sum()
        (gradient,) = torch.autograd.grad(reached, inputs)
    return gradient[0].numpy(force=True)


def _zeros_and_ones(linear_map: nn.Module, dense: bool) -> dict[str, Tensor]:
    """Return 1 for weights that count, 0 for biases; delays, which say how far, stay."""
    counted = {}
    for name, p in linear_map.named_parameters():
        if p.ndim > 1:
            value = (p != 0) | dense
        else:
            value = torch.zeros_like(p) if name.endswith("bias") else p
        counted[name] = value.detach().double()
    return counted
