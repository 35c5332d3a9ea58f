"""One pass of a network over a set of clips: loss, accuracy and firing statistics together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fnl.clip_draws import ClipDraws, DrawKeys
from fnl.device import device_of
from fnl.randomness import Purpose, global_generators
from fnl.snn.kernels.activity import add_activity
from fnl.snn.kernels.statistics import SpikeStatistics
from fnl.snn.network import SpikingNetwork, drawing_layers, set_draws, tracer
from fnl.snn.statistics import FiringStatistics

EVALUATION_BATCH = 64

EVALUATION_SEED = 0
"""Of what clips draw for their encoding: public, the same in every run."""


@dataclass(frozen=True)
class Evaluation:
    """What a network did on a set of clips.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of clips whose largest logit is their label.
        firing: spike sums per layer, class and neuron.
        activity: mean number of non-zero values that a clip sends into each linear map and into
            the read-out, by step and feature, float64 [T, F_l]: what effective synaptic
            operations count. The first is of the encoded input, the others are of spikes. Empty
            where rates alone were asked for, and of a network that is no `SpikingNetwork`.
        clip_rates: firing rate of each spiking layer on each clip, float64 [n, L].
        class_correct: clips of each label whose largest logit is their label, int64 [C].
        membranes: statistics of the membranes of each spiking layer; None where rates alone were
            asked for, and for a neuron of one's own that has no `observe`. Their spike counts are
            left out: `firing` has them.
    """

    loss: float
    accuracy: float
    firing: FiringStatistics
    activity: tuple[NDArray[np.float64], ...]
    clip_rates: NDArray[np.float64]
    class_correct: NDArray[np.int64]
    membranes: tuple[SpikeStatistics | None, ...] = ()


def evaluate(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    rates_alone: bool = False,
    step: float = 1.0,
) -> Evaluation:
    """Return loss, accuracy and firing statistics of `network` on all clips given.

    An encoder that draws does so for each clip alike in every call, and PyTorch's own generator is
    seeded alike: evaluations differ in weights and clips alone.

    Args:
        network: maps [B, T, F] to logits [B, C]; decides the device.
        features: [n, T, F], n at least 1; any float type, computed in float32.
        labels: int64 [n].
        classes: C.
        rates_alone: whether to leave out `activity` and `membranes`, which takes a fifth less time.
        step: length of a step, in those that rates are per.

    Raises:
        ValueError: if there are no clips.
    """
    if not len(labels):
        raise ValueError("there are no clips to evaluate on")
    network.eval()
    device = device_of(network)
    features, labels = features.to(device), labels.to(device)
    keys = DrawKeys.seeded(EVALUATION_SEED)
    with global_generators(int(keys.key(Purpose.OWN_MODULES, 0))):
        draws = keys.of(features)
        return _evaluate(network, draws, labels, classes, rates_alone=rates_alone, step=step)


def _evaluate(
    network: nn.Module,
    draws: ClipDraws,
    labels: Tensor,
    classes: int,
    *,
    rates_alone: bool,
    step: float,
) -> Evaluation:
    layers, features = drawing_layers(network), draws.clips
    two = [0, min(1, len(labels) - 1)]
    set_draws(layers, draws.batch(two, step=0))
    trace_of = tracer(network, torch.stack([features[row] for row in two]).float())
    loss = 0.0
    right = torch.empty(len(labels), dtype=torch.bool)
    spikes: list[Tensor] = []  # of all clips: small pieces kept here and there tear the heap apart
    active: list[Tensor] = []
    recorded: list[SpikeStatistics | None] = []
    with torch.no_grad():
        for start in range(0, len(labels), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            set_draws(layers, draws.batch(rows, step=0))
            inputs, target = features[rows].float(), labels[rows]
            trace = trace_of(inputs, not rates_alone)
            logits = trace.logits
            loss += F.cross_entropy(logits, target, reduction="sum").item()
            right[rows] = (logits.argmax(dim=1) == target).cpu()
            if not rates_alone:
                active = active or [_no_activity(signal) for signal in trace.signals]
                for signal, times in zip(trace.signals, active, strict=True):
                    add_activity(signal, times)
            observed = [_without_counts(layer) for layer in trace.statistics]
            recorded = (
                [_merged(a, b) for a, b in zip(recorded, observed, strict=True)]
                if recorded
                else observed
            )
            spikes = spikes or [
                torch.empty(len(labels), layer.shape[1], dtype=layer.dtype)
                for layer in trace.counts
            ]
            for layer, counts in zip(spikes, trace.counts, strict=True):
                layer[rows] = counts.cpu()
    activity = tuple((layer.cpu().double() / len(labels)).numpy() for layer in active)
    steps = round(features.shape[1] * step)  # a clip lasts whole ones
    found = counted(spikes, labels.cpu(), classes, steps, loss=loss, right=right)
    spiking = not isinstance(network, SpikingNetwork) or network.spikes
    firing = replace(found.firing, spiking=spiking)
    return replace(found, firing=firing, activity=activity, membranes=tuple(recorded))


def counted(
    counts: Sequence[Tensor],
    labels: Tensor,
    classes: int,
    steps: int,
    *,
    loss: float,
    right: Tensor,
) -> Evaluation:
    """Return the rates alone, of the spikes that each layer's neurons fired in each clip.

    Args:
        counts: of each spiking layer, [n, F_l], on the processor.
        labels: int64 [n], likewise.
        classes: C.
        steps: T, of those that rates are per.
        loss: cross-entropy summed over clips.
        right: which clips were recognised, bool [n].
    """
    n = len(labels)
    spikes = [layer.double() for layer in counts]
    means = [layer.mean(dim=1, keepdim=True) / steps for layer in spikes]
    rates = torch.cat([torch.zeros(n, 0, dtype=torch.float64), *means], dim=1).numpy()
    firing = _per_class(spikes, labels, classes, steps)
    of_classes = torch.bincount(labels[right], minlength=classes).numpy()
    return Evaluation(loss / n, int(right.sum()) / n, firing, (), rates, of_classes)


def _no_activity(signal: Tensor) -> Tensor:
    """Return zeros for the sums over clips of `signal` [B, T, F], int32 [T, F]."""
    return torch.zeros(signal.shape[1:], dtype=torch.int32, device=signal.device)


def _without_counts(layer: SpikeStatistics | None) -> SpikeStatistics | None:
    """Return the statistics with counts of no neurons, [B, 0], which cost nothing to keep."""
    if layer is None:
        return None
    return replace(layer, spike_counts=layer.spike_counts[:, :0].cpu(), moments=layer.moments.cpu())


def _merged(a: SpikeStatistics | None, b: SpikeStatistics | None) -> SpikeStatistics | None:
    return None if a is None or b is None else a.merge(b)


def _per_class(counts: list[Tensor], labels: Tensor, classes: int, steps: int) -> FiringStatistics:
    """Return the sums by class of spikes per clip and neuron, float64 [n, F_l]."""
    spikes = tuple(
        torch.zeros(classes, layer.shape[1], dtype=torch.float64)
        .index_add_(0, labels, layer)
        .numpy()
        for layer in counts
    )
    clips = torch.bincount(labels, minlength=classes).numpy()
    return FiringStatistics(spikes, clips, steps)
