"""The firing rates of K clients' models, each on its own client's clips, as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fnl.clip_draws import DrawKeys
from fnl.device import device_of
from fnl.snn.evaluation import EVALUATION_BATCH, EVALUATION_SEED, Evaluation, counted
from fnl.snn.network import SpikingNetwork, set_draws
from fnl.training.batched.draws import ClientDraws
from fnl.training.batched.network import ClientNetworks
from fnl.weights import Weights

ClientClips = tuple[Tensor, Tensor]
"""A client's features [n, T, F] and labels int64 [n]."""


@torch.no_grad()
def evaluate_together(
    network: SpikingNetwork,
    models: Sequence[Weights],
    clips: Sequence[ClientClips],
    classes: int,
) -> list[Evaluation]:
    """Return what `evaluate` does of each model on its clips, rates alone.

    Args:
        network: what all models are of; on the device.
        models: of each client.
        clips: of each client, at least one.
        classes: C.
    """
    network.eval()
    device = device_of(network)
    # who has most clips comes first: who is not yet through is the beginning of every tensor
    order = sorted(range(len(models)), key=lambda one: -len(clips[one][1]))
    networks = ClientNetworks(network, [models[one] for one in order])
    own = [clips[one] for one in order]
    draws = [DrawKeys.seeded(EVALUATION_SEED).of(features) for features, _ in own]
    sizes = np.array([len(labels) for _, labels in own])
    starts = np.cumsum([0, *sizes[:-1]])
    features = torch.cat([one for one, _ in own]).to(device)
    labels = torch.cat([one for _, one in own]).to(device)
    losses: list[Tensor] = []
    counts: list[list[Tensor]] = []
    for start in range(0, int(sizes[0]), EVALUATION_BATCH):
        active = int((sizes > start).sum())
        rows = np.arange(start, min(start + EVALUATION_BATCH, int(sizes[0])))
        inside = np.minimum(rows, sizes[:active, None] - 1)  # filled up with the last clip
        places = torch.from_numpy((inside + starts[:active, None]).reshape(-1)).to(device)
        set_draws(networks.drawing, ClientDraws(draws[:active], inside, 0, 1, device))
        logits, _, spikes = networks.run(features.index_select(0, places).float(), active)
        target = labels.index_select(0, places)
        found = F.cross_entropy(logits, target, reduction="none"), logits.argmax(1) == target
        losses.append(torch.stack([one.double() for one in found], 1).unflatten(0, (active, -1)))
        counts.append([layer.sum(1).unflatten(0, (active, -1)).cpu() for layer in spikes])
    seen = [one.cpu() for one in losses]
    results: dict[int, Evaluation] = {}
    for place, client in enumerate(order):
        size, steps = int(sizes[place]), own[place][0].shape[1]
        loss, right = _of_client(seen, place, size).unbind(1)
        of_layers = [_of_client(layer, place, size) for layer in zip(*counts, strict=True)]
        results[client] = counted(
            of_layers, own[place][1].cpu(), classes, steps, loss=float(loss.sum()), right=right > 0
        )
    return [results[client] for client in range(len(models))]


def _of_client(parts: Sequence[Tensor], place: int, size: int) -> Tensor:
    """Return the first `size` rows of a client, of parts [k, B, …] of the first k clients each."""
    return torch.cat([part[place] for part in parts if len(part) > place])[:size]
