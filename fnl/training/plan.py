"""What a client does in one round: its steps, and the optimizer that takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fnl.config import Config, TrainingGroup
from fnl.training.loss import TrainingLoss
from fnl.weights import Weights


@dataclass(frozen=True)
class TrainingPlan:
    """The steps of one client in one round.

    Attributes:
        steps: number of mini-batches.
        sample_rate: probability q with which each clip is in a mini-batch.
        learning_rate: of this round, whatever `options` start with.
        options: the optimizer and all else that is configured of local training.
        correction: what is added to the gradient of every step, by name of the parameter.
    """

    steps: int
    sample_rate: float
    learning_rate: float
    options: TrainingGroup
    correction: Weights | None = None

    @property
    def loss(self) -> TrainingLoss:
        """What the steps descend."""
        return TrainingLoss(self.options)

    @classmethod
    def for_clips(
        cls, clips: int, options: TrainingGroup, learning_rate: float | None = None
    ) -> TrainingPlan:
        """Return the plan of a client with `clips` clips: q = min(1, batch_size / clips).

        A `batch_size` of 0 is all clips, q = 1. There are `options.steps`; where that is 0, as many
        as `local_epochs` expected passes take, at least one.
        """
        sample_rate = min(1.0, options.batch_size / clips) if options.batch_size else 1.0
        steps = options.steps or max(1, round(options.local_epochs / sample_rate))
        rate = options.learning_rate if learning_rate is None else learning_rate
        return cls(steps, sample_rate, rate, options)


def plan_of(config: Config, clips: int, server_round: int) -> TrainingPlan:
    """Return the steps in `server_round` of a client with `clips` clips."""
    rate = config.training.learning_rate_of(server_round, config.run.rounds)
    return TrainingPlan.for_clips(clips, config.training, rate)


def build_optimizer(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """Return a client's optimizer, new in every round, with what is done beside its steps.

    `foreach` is off, because it is slower on a CPU, and is slow to decide for itself.
    """
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    options = plan.options
    optimizer: torch.optim.Optimizer
    if options.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            trainable, lr=plan.learning_rate, momentum=options.momentum, foreach=False
        )
    else:
        optimizer = torch.optim.Adam(trainable, lr=plan.learning_rate, foreach=False)
    if options.weight_decay:
        _decay_before_steps(optimizer, trainable, plan.learning_rate * options.weight_decay)
    if options.proximal_mu:
        _pull_to_start(optimizer, trainable, options.proximal_mu)
    if plan.correction is not None:
        _correct(optimizer, network, plan.correction)
    return optimizer


def _decay_before_steps(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], share: float
) -> None:
    """Shrink matrices and kernels by `share` before each step, as AdamW does (arXiv 1711.05101)."""
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]

    def decay(*_: object) -> None:
        with torch.no_grad():
            for matrix in matrices:
                matrix.mul_(1 - share)

    optimizer.register_step_pre_hook(decay)


def _pull_to_start(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], proximal_mu: float
) -> None:
    """Add μ(w − w₀) to the gradients of every step (FedProx, Li et al. 2018, arXiv 1812.06127).

    Opacus' optimizers step this one after clipping and noise: the term does not depend on the
    clips, so it is neither clipped nor does it cost privacy.
    """
    starts = [parameter.detach().clone() for parameter in parameters]

    def pull(*_: object) -> None:
        with torch.no_grad():
            for parameter, start in zip(parameters, starts, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - start, alpha=proximal_mu)

    optimizer.register_step_pre_hook(pull)


def _correct(optimizer: torch.optim.Optimizer, network: nn.Module, correction: Weights) -> None:
    """Add `correction` to the gradients of every step.

    As what pulls to the start it comes after clipping and noise, and does not depend on the clips.
    """
    own = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if (names := sorted(own.keys() ^ correction.keys())) != []:
        raise ValueError(f"a correction must be of what is trained: see {names[0]}")
    given = [(p, torch.from_numpy(correction[name].copy()).to(p)) for name, p in own.items()]

    def correct(*_: object) -> None:
        with torch.no_grad():
            for parameter, value in given:
                if parameter.grad is not None:
                    parameter.grad.add_(value)

    optimizer.register_step_pre_hook(correct)
