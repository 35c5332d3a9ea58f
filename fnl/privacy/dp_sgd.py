"""Local training: DP-SGD on Opacus, or the same steps without clipping and noise.

One step (Abadi et al. 2016): g = (1/B̄)[Σᵢ gᵢ·min(1, C/‖gᵢ‖) + N(0, σ²C²I)] over a Poisson
sample at rate q, B̄ = q·n the expected batch. Without a mechanism the step is (1/B̄) Σᵢ gᵢ over
the same samples, so a run and its non-private twin differ in clipping and noise alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from opacus.optimizers import DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor, nn

from fnl.privacy.per_clip import PerClipGradientModule


@dataclass(frozen=True)
class TrainingPlan:
    """The steps of one client in one round.

    Attributes:
        steps: number of mini-batches.
        sample_rate: probability q with which each clip is in a mini-batch.
        optimizer: "sgd" or "adam".
        learning_rate: of the optimizer.
        momentum: of SGD.
    """

    steps: int
    sample_rate: float
    optimizer: str
    learning_rate: float
    momentum: float = 0.0

    @classmethod
    def for_clips(
        cls,
        clips: int,
        *,
        batch_size: int,
        local_epochs: float,
        optimizer: str,
        learning_rate: float,
        momentum: float = 0.0,
    ) -> TrainingPlan:
        """Return the plan of a client with `clips` clips: q = min(1, batch_size / clips).

        `local_epochs` is the expected number of passes, at least one step.
        """
        sample_rate = min(1.0, batch_size / clips)
        steps = max(1, round(local_epochs / sample_rate))
        return cls(steps, sample_rate, optimizer, learning_rate, momentum)


@dataclass(frozen=True)
class GaussianMechanism:
    """Flat per-clip clipping to `clip_norm` and noise of `noise_multiplier * clip_norm`."""

    noise_multiplier: float
    clip_norm: float


@dataclass(frozen=True)
class TrainingSummary:
    """What one client saw while training in one round.

    Attributes:
        loss: mean cross-entropy over the clips drawn, before each step; None if none was drawn.
        clip_fraction: share of per-clip gradients above the clipping bound; None without one.
        gradient_norm_median: median L2 norm of the per-clip gradients; None without a mechanism.
    """

    loss: float | None
    clip_fraction: float | None
    gradient_norm_median: float | None


def train(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    plan: TrainingPlan,
    *,
    batches: torch.Generator,
    mechanism: GaussianMechanism | None = None,
    noise: torch.Generator | None = None,
) -> TrainingSummary:
    """Train `network` in place.

    Args:
        network: maps [B, T, F] to logits [B, C], each clip on its own.
        features: [n, T, F], the client's clips.
        labels: int64 [n].
        plan: steps, sampling rate and optimizer.
        batches: stream of the Poisson samples.
        mechanism: clipping and noise; None trains without.
        noise: stream of the Gaussian noise; required with a mechanism.

    Raises:
        ValueError: if a mechanism comes without a noise stream.
    """
    if mechanism is not None and noise is None:
        raise ValueError("a Gaussian mechanism needs a noise stream")
    sampler = UniformWithReplacementSampler(
        num_samples=len(labels), sample_rate=plan.sample_rate, generator=batches, steps=plan.steps
    )
    expected_batch = plan.sample_rate * len(labels)
    network.train()
    if mechanism is None:
        optimizer = _optimizer(network, plan)
        return _train_plain(network, optimizer, (features, labels), sampler, expected_batch)
    module = PerClipGradientModule(network, loss_reduction="sum", strict=False)
    optimizer = DPOptimizer(
        _optimizer(network, plan),
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=mechanism.clip_norm,
        expected_batch_size=expected_batch,  # type: ignore[arg-type]  # a float divides as well
        loss_reduction="mean",
        generator=noise,
    )
    with warnings.catch_warnings():
        # inputs need no gradient, and Opacus' hooks do not mind
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        try:
            return _train_private(module, optimizer, (features, labels), sampler)
        finally:
            module.remove_hooks()


def _train_plain(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    clips: tuple[Tensor, Tensor],
    sampler: UniformWithReplacementSampler,
    expected_batch: float,
) -> TrainingSummary:
    features, labels = clips
    total_loss, drawn = 0.0, 0
    for rows in sampler:
        optimizer.zero_grad()
        if rows:
            loss = F.cross_entropy(network(features[rows]), labels[rows], reduction="sum")
            (loss / expected_batch).backward()
            total_loss += loss.item()
            drawn += len(rows)
        else:  # an empty Poisson sample is a step of gradient zero
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return TrainingSummary(total_loss / drawn if drawn else None, None, None)


def _train_private(
    module: PerClipGradientModule,
    optimizer: DPOptimizer,
    clips: tuple[Tensor, Tensor],
    sampler: UniformWithReplacementSampler,
) -> TrainingSummary:
    features, labels = clips
    total_loss = 0.0
    norms: list[Tensor] = []
    for rows in sampler:
        optimizer.zero_grad()
        if rows:
            loss = F.cross_entropy(module(features[rows]), labels[rows], reduction="sum")
            loss.backward()
            total_loss += loss.item()
            norms.append(_per_clip_norms(optimizer.grad_samples))
        else:  # an empty Poisson sample is a step of noise alone
            for parameter in optimizer.params:
                setattr(parameter, "grad_sample", torch.zeros((0, *parameter.shape)))  # noqa: B010 Opacus' own
        optimizer.step()
    if not norms:
        return TrainingSummary(None, None, None)
    all_norms = torch.cat(norms)
    return TrainingSummary(
        loss=total_loss / len(all_norms),
        clip_fraction=(all_norms > optimizer.max_grad_norm).float().mean().item(),
        gradient_norm_median=all_norms.quantile(0.5).item(),
    )


def _per_clip_norms(grad_samples: list[Tensor]) -> Tensor:
    per_parameter = [g.reshape(len(g), -1).norm(2, dim=-1) for g in grad_samples]
    return torch.stack(per_parameter, dim=1).norm(2, dim=1)


def _optimizer(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if plan.optimizer == "adam":
        return torch.optim.Adam(trainable, lr=plan.learning_rate)
    return torch.optim.SGD(trainable, lr=plan.learning_rate, momentum=plan.momentum)
