"""Cross-entropy with its gradient in closed form, to start a backward pass without autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0
) -> tuple[float, Tensor]:
    """Return the cross-entropy summed over clips, in nats, and its gradient [B, C].

    The gradient of a clip is softmax(logits) minus the target, which is 1 − ε at the label and
    ε/C more at every class (ε the smoothing); by PyTorch's own backward of log-softmax.

    Args:
        logits: [B, C].
        labels: int64 [B].
        label_smoothing: ε.
    """
    scores = torch.log_softmax(logits, 1)
    classes = scores.shape[1]
    loss = F.nll_loss(scores, labels, reduction="sum")
    if label_smoothing:
        elsewhere = scores.sum(1).neg().sum()
        loss = (1 - label_smoothing) * loss + label_smoothing / classes * elsewhere
    return loss.item(), _gradient(scores, labels, label_smoothing)


def cross_entropies(
    logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each clip, [B], and the gradient of their sum, [B, C].

    Arguments are those of `cross_entropy`.
    """
    scores = torch.log_softmax(logits, 1)
    loss = F.nll_loss(scores, labels, reduction="none")
    if label_smoothing:
        elsewhere = scores.mean(1).neg()
        loss = (1 - label_smoothing) * loss + label_smoothing * elsewhere
    return loss, _gradient(scores, labels, label_smoothing)


def _gradient(scores: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the gradient of the summed cross-entropy, of the logarithms of softmax."""
    slope = torch.full_like(scores, -label_smoothing / scores.shape[1])
    slope.scatter_(1, labels.unsqueeze(1), label_smoothing - 1, reduce="add")
    back = torch._log_softmax_backward_data  # pyright: ignore[reportPrivateImportUsage] - PyTorch's own
    return back(slope, scores, 1, scores.dtype)
