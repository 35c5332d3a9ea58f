"""What one clip contributes to a step of DP-SGD: its gradient, clipped as the mechanism clips."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.privacy.clip_factor import clip_factors
from fnl.snn.network import set_draws
from fnl.training.cross_entropy import cross_entropy
from fnl.training.dp_sgd import GaussianMechanism
from fnl.training.per_clip.module import PerClipGradientModule

_BATCH = 128


def clip_gradients(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    mechanism: GaussianMechanism | None,
    *,
    draws: DrawKeys | None = None,
    label_smoothing: float = 0.0,
) -> NDArray[np.float64]:
    """Return the gradient of each clip, clipped by `mechanism`, float64 [n, D].

    D counts all trained parameters, in the network's order. The network is left as it was.

    Args:
        network: maps [B, T, F] to logits [B, C].
        features: [n, T, F], n at least 1.
        labels: int64 [n].
        mechanism: clipping at C (adaptive: at its first C); None: gradients as they are.
        draws: keys of what clips draw; those of a round's first step are taken.
        label_smoothing: of the loss.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    clips, written = draws.of(features) if draws else None, []
    for start in range(0, len(labels), _BATCH):
        rows = slice(start, start + _BATCH)
        if clips is not None:
            set_draws(network, clips.batch(rows, step=0))
        written.append(_written_out(network, features[rows], labels[rows], label_smoothing))
    gradients = np.concatenate(written)
    if mechanism is None:
        return gradients
    ends = np.cumsum([p.numel() for p in parameters])[:-1]
    parts = np.split(gradients, ends, axis=1)
    norms = np.stack([np.linalg.norm(part, axis=1) for part in parts], axis=1)
    factors = clip_factors(norms, mechanism.clip_norm, mechanism.clipping)
    return np.concatenate([p * f[:, None] for p, f in zip(parts, factors.T, strict=True)], axis=1)


def _written_out(
    network: nn.Module, features: Tensor, labels: Tensor, label_smoothing: float
) -> NDArray[np.float64]:
    training = network.training
    network.train()
    module = PerClipGradientModule(network, loss_reduction="sum", strict=False)
    try:
        loss = partial(cross_entropy, labels=labels, label_smoothing=label_smoothing)
        module.descent()(features, loss)
        samples = [getattr(p, "grad_sample") for p in network.parameters() if p.requires_grad]  # noqa: B009 - Opacus' own attribute
        return torch.cat([s.reshape(len(labels), -1) for s in samples], dim=1).double().numpy()
    finally:
        module.zero_grad(set_to_none=True)
        module.remove_hooks()
        network.train(training)
