"""Passes through a private network, by its own way and by Opacus' hooks."""

from __future__ import annotations

import torch.nn.functional as F
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fnl.config import TrainingGroup
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.grad_samplers import register_grad_samplers
from fnl.training.per_clip.module import PerClipGradientModule


def trained(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def samples(network: nn.Module) -> list[Tensor]:
    """Return the gradients of each clip that a pass has left."""
    return [p.grad_sample for p in trained(network)]


def hooked(network: nn.Module, loss_reduction: str = "sum") -> GradSampleModule:
    """Return the network under Opacus' own hooks."""
    register_grad_samplers(network)
    return GradSampleModule(network, loss_reduction=loss_reduction, strict=False)


def wrapped(network: nn.Module, loss_reduction: str = "sum") -> PerClipGradientModule:
    return PerClipGradientModule(network, loss_reduction=loss_reduction, strict=False)


def backward(
    network: GradSampleModule, clips: Tensor, labels: Tensor, smoothing: float = 0
) -> float:
    """Go forward and back with a cross-entropy, by autograd unless the network has its own way."""
    mean = network.loss_reduction == "mean"

    def loss(scores: Tensor) -> tuple[float, Tensor]:
        value, grad = TrainingLoss(TrainingGroup(label_smoothing=smoothing))(scores, labels)
        return (value / len(labels), grad / len(labels)) if mean else (value, grad)

    if isinstance(network, PerClipGradientModule):
        return network.descent()(clips, loss)
    value = F.cross_entropy(
        network(clips), labels, reduction=network.loss_reduction, label_smoothing=smoothing
    )
    value.backward()
    return value.item()
