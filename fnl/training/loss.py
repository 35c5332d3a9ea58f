"""What local training descends, for whoever takes its gradient: by autograd or in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from fnl.config import TrainingGroup


@dataclass(frozen=True)
class TrainingLoss:
    """Cross-entropy in nats, of targets that are 1 − ε at the label and ε/C more at every class.

    Logits are [B, C] and labels int64 [B] wherever they are given. ε is the label smoothing.

    Attributes:
        options: of local training.
    """

    options: TrainingGroup = field(default_factory=TrainingGroup)

    def by_autograd(self, logits: Tensor, labels: Tensor, *, reduction: str = "sum") -> Tensor:
        """Return the loss, to be differentiated: of each clip, [B], if `reduction` is "none"."""
        smoothing = self.options.label_smoothing
        return F.cross_entropy(logits, labels, reduction=reduction, label_smoothing=smoothing)

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """Return the loss summed over clips, and its gradient [B, C]."""
        smoothing, scores = self.options.label_smoothing, torch.log_softmax(logits, 1)
        loss = F.nll_loss(scores, labels, reduction="sum")
        if smoothing:
            elsewhere = scores.sum(1).neg().sum()
            loss = (1 - smoothing) * loss + smoothing / scores.shape[1] * elsewhere
        return loss.item(), self._gradient(scores, labels)

    def of_each(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each clip, [B], and the gradient of their sum, [B, C]."""
        smoothing, scores = self.options.label_smoothing, torch.log_softmax(logits, 1)
        loss = F.nll_loss(scores, labels, reduction="none")
        if smoothing:
            loss = (1 - smoothing) * loss + smoothing * scores.mean(1).neg()
        return loss, self._gradient(scores, labels)

    def _gradient(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return softmax less the target, [B, C], of the logarithms of softmax.

        By PyTorch's own backward of log-softmax.
        """
        smoothing = self.options.label_smoothing
        slope = torch.full_like(scores, -smoothing / scores.shape[1])
        slope.scatter_(1, labels.unsqueeze(1), smoothing - 1, reduce="add")
        back = torch._log_softmax_backward_data  # pyright: ignore[reportPrivateImportUsage] - PyTorch's own
        return back(slope, scores, 1, scores.dtype)
