"""One pass of a network over a set of clips: loss, accuracy and firing statistics together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fnl.snn.network import SpikingNetwork
from fnl.snn.statistics import FiringStatistics

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """What a network did on a set of clips.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of clips whose largest logit is their label.
        firing: spike sums per layer, class and neuron.
        active_inputs: mean number of non-zero values a clip gives to each input feature,
            float64 [F]; what effective synaptic operations of the first layer count.
    """

    loss: float
    accuracy: float
    firing: FiringStatistics
    active_inputs: NDArray[np.float64]


def evaluate(network: SpikingNetwork, features: Tensor, labels: Tensor, classes: int) -> Evaluation:
    """Return loss, accuracy and firing statistics of `network` on all clips given.

    Args:
        network: maps [B, T, F] to logits [B, C].
        features: [n, T, F], n at least 1; any float type, computed in float32.
        labels: int64 [n].
        classes: C.

    Raises:
        ValueError: if there are no clips.
    """
    if not len(labels):
        raise ValueError("there are no clips to evaluate on")
    network.eval()
    loss, correct = 0.0, 0
    active = np.zeros(features.shape[2])
    firing: FiringStatistics | None = None
    with torch.no_grad():
        for start in range(0, len(labels), EVALUATION_BATCH):
            inputs = features[start : start + EVALUATION_BATCH].float()
            target = labels[start : start + EVALUATION_BATCH]
            logits, counts = network.observe(inputs)
            loss += F.cross_entropy(logits, target, reduction="sum").item()
            correct += int((logits.argmax(dim=1) == target).sum())
            active += (inputs != 0).sum(dim=(0, 1)).numpy()
            batch = _per_class(counts, target, classes, steps=inputs.shape[1])
            firing = batch if firing is None else firing + batch
    if firing is None:  # unreachable: there is at least one batch
        raise ValueError("there are no clips to evaluate on")
    n = len(labels)
    return Evaluation(loss / n, correct / n, firing, active / n)


def _per_class(counts: list[Tensor], labels: Tensor, classes: int, steps: int) -> FiringStatistics:
    spikes = tuple(
        torch.zeros(classes, layer.shape[1], dtype=torch.float64)
        .index_add_(0, labels, layer.double())
        .numpy()
        for layer in counts
    )
    clips = torch.bincount(labels, minlength=classes).numpy()
    return FiringStatistics(spikes, clips, steps)
