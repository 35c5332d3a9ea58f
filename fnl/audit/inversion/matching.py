"""Gradient matching: the clip whose gradient points where the update points.

Geiping et al. 2020, "Inverting Gradients" (arXiv 2003.14053): signed Adam on the cosine distance
between gradients, with total variation as prior. The start is the mean public clip of the word that
the update names, which found more than noise as a start did.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fnl.audit.inversion.gradients import DifferentiableGradients

TOTAL_VARIATION = 0.01
LEARNING_RATE = 0.05


def match_gradients(
    gradients: DifferentiableGradients,
    targets: Sequence[dict[str, Tensor]],
    labels: Tensor,
    start: Tensor,
    *,
    steps: int,
) -> Tensor:
    """Return the clips [n, T, F] found, each from its own update.

    Args:
        gradients: of the network that the updates are of.
        targets: the gradient of one clip each, by name.
        labels: int64 [n], as inferred.
        start: [n, T, F].
        steps: of the descent; the best of them is returned.
    """
    wanted = torch.stack([_flat(target, 0) for target in targets])
    clips = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([clips], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, least = start.clone(), torch.full((len(start),), torch.inf)
    for _ in range(steps):
        found = _flat(gradients(clips, labels), 1)
        cost = 1 - F.cosine_similarity(found, wanted) + TOTAL_VARIATION * _variation(clips)
        better = cost.detach() < least
        least = torch.where(better, cost.detach(), least)
        best[better] = clips.detach()[better]
        (clips.grad,) = torch.autograd.grad(cost.sum(), [clips])
        clips.grad.sign_()
        optimizer.step()
        schedule.step()
    return best


def _flat(gradients: dict[str, Tensor], axis: int) -> Tensor:
    return torch.cat([gradients[name].flatten(axis) for name in sorted(gradients)], axis)


def _variation(clips: Tensor) -> Tensor:
    over_time = (clips[:, 1:] - clips[:, :-1]).abs().mean((1, 2))
    return over_time + (clips[:, :, 1:] - clips[:, :, :-1]).abs().mean((1, 2))
