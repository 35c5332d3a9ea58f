"""What one clip contributes to a step of DP-SGD: its gradient, clipped as the mechanism clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.privacy.clip_factor import clip_factors
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism
from fnl.training.per_clip.module import gradients_of_batches

_BATCH = 128


def clip_gradients(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    mechanism: GaussianMechanism | None,
    *,
    loss: TrainingLoss,
    draws: DrawKeys | None = None,
) -> NDArray[np.float64]:
    """Return the gradient of each clip, clipped by `mechanism`, float64 [n, D].

    D counts all trained parameters, in the network's order. The network is left as it was.

    Args:
        network: maps [B, T, F] to logits [B, C].
        features: [n, T, F], n at least 1.
        labels: int64 [n].
        mechanism: clipping at C (adaptive: at its first C); None: gradients as they are.
        loss: of local training.
        draws: keys of what clips draw; those of a round's first step are taken.
    """
    batches = gradients_of_batches(network, features, labels, size=_BATCH, keys=draws, loss=loss)
    written = [[part.double().numpy() for part in batch] for batch in batches]
    parts = [np.concatenate(part) for part in zip(*written, strict=True)]
    if mechanism is not None:
        norms = np.stack([np.linalg.norm(part, axis=1) for part in parts], axis=1)
        factors = clip_factors(norms, mechanism.clip_norm, mechanism.clipping)
        parts = [part * f[:, None] for part, f in zip(parts, factors.T, strict=True)]
    return np.concatenate(parts, axis=1)
