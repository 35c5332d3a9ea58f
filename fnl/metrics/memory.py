"""Memory in both senses: bytes that a network takes, and what its membranes remember.

Pure functions, but for `peak_memory_bytes`, which asks the system.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fnl.snn.evaluation import Evaluation
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.network import SpikingNetwork
from fnl.snn.neurons.spiking_layer import SpikingLayer


@dataclass(frozen=True)
class MembraneSummary:
    """One layer's membranes, means over its neurons; None where it cannot be told.

    Attributes:
        mean: of the membrane, in units of the threshold's scale.
        variance: of the membrane over clips and steps, within each neuron.
        autocorrelation: at a lag of one step, of the neurons whose membrane moves.
    """

    mean: float | None
    variance: float | None
    autocorrelation: float | None


def membrane_summary(statistics: SpikeStatistics | None) -> MembraneSummary:
    """Return the layer's means of the statistics of its neurons; all None without statistics."""
    if statistics is None:
        return MembraneSummary(None, None, None)
    # rounding leaves a membrane that never moves a variance of about its square times 1e-16
    moving = statistics.membrane_variance() > 1e-12 * (1 + statistics.membrane_mean() ** 2)
    lagged = statistics.membrane_autocorrelation()[moving]
    return MembraneSummary(
        mean=_mean(statistics.membrane_mean()),
        variance=_mean(statistics.membrane_variance()),
        autocorrelation=_mean(lagged),
    )


def membrane_updates(evaluation: Evaluation) -> float | None:
    """Return how often a membrane changed in a clip, over steps and all spiking neurons.

    NeuroBench: the first step always counts, a later one where the membrane after it differs from
    the membrane before. None if a layer did not count.
    """
    if not evaluation.membranes:
        return None
    total = 0
    for layer in evaluation.membranes:
        if layer is None or layer.membrane_updates is None:
            return None
        total += layer.membrane_updates
    return total / float(evaluation.firing.clips.sum())


def state_bytes(network: nn.Module, evaluation: Evaluation) -> int | None:
    """Return the bytes that a step-by-step run keeps of one clip between two steps.

    Those are the states that spiking neurons declare (`Scan.states`), and the read-out's membrane
    and running sum. Past inputs that a convolution over time waits for are not counted. None if
    the network has a neuron that declares none, or is no `SpikingNetwork`.
    """
    if not isinstance(network, SpikingNetwork):
        return None
    values = 0
    for neuron, size in zip(network.neuron, evaluation.firing.neurons, strict=True):
        if not isinstance(neuron, SpikingLayer):
            return None
        values += size * len(neuron.scan.states)
    return 4 * (values + 2 * network.readout.linear.out_features)


def gradient_bytes(network: nn.Module) -> int:
    """Return the bytes of one clip's gradient, written out: what DP-SGD keeps of every clip."""
    trained = (p for p in network.parameters() if p.requires_grad)
    return sum(p.numel() * p.element_size() for p in trained)


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process has had, from the system."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _mean(values: Tensor) -> float | None:
    mean = float(values.mean()) if values.numel() else torch.nan
    return mean if mean == mean else None  # noqa: PLR0124 only nan differs from itself
