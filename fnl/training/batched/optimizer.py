"""The optimizers of `fnl.training.plan` for K clients whose numbers are the rows of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from fnl.training.plan import TrainingPlan

_BETA_1, _BETA_2, _EPS = 0.9, 0.999, 1e-8
"""PyTorch's own of Adam."""


class RowOptimizer:
    """SGD or Adam, number by number as PyTorch's, and what `build_optimizer` adds before a step.

    Args:
        values: the clients' weights, [K, numbers], stepped in place.
        plan: optimizer, learning rate, momentum, decay and FedProx; the same for all.
        matrices: which numbers belong to parameters with more than one axis, bool [numbers].
        corrections: what is added to the clients' gradients in every step, [K, numbers]; or None.
    """

    def __init__(
        self,
        values: Tensor,
        plan: TrainingPlan,
        matrices: Tensor,
        corrections: Tensor | None = None,
    ) -> None:
        self._values, self._plan, self._corrections = values, plan, corrections
        options = plan.options
        self._start = values.clone() if options.proximal_mu else None
        share = plan.learning_rate * options.weight_decay
        self._kept = torch.where(matrices, 1 - share, 1.0).to(values) if share else None
        self._first = self._second = values.new_zeros(0)
        if options.optimizer == "adam":
            self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)
        elif options.momentum:
            self._first = torch.zeros_like(values)
        self._steps = 0

    def step(self, grads: Tensor) -> None:
        """Step the first clients, as many as `grads` [k, numbers] has rows; it is overwritten.

        The others have taken all of their steps.
        """
        self._steps += 1
        values, options = self._values[: len(grads)], self._plan.options
        if self._kept is not None:
            values.mul_(self._kept)
        if self._start is not None:
            grads.add_(values - self._start[: len(grads)], alpha=options.proximal_mu)
        if self._corrections is not None:
            grads.add_(self._corrections[: len(grads)])
        first, second = self._first[: len(grads)], self._second[: len(grads)]
        if options.optimizer == "adam":
            self._adam(values, grads, first, second)
            return
        if options.momentum:
            first.mul_(options.momentum if self._steps > 1 else 0.0).add_(grads)
            grads = first
        values.add_(grads, alpha=-self._plan.learning_rate)

    def _adam(self, values: Tensor, grads: Tensor, first: Tensor, second: Tensor) -> None:
        first.lerp_(grads, 1 - _BETA_1)
        second.mul_(_BETA_2).addcmul_(grads, grads, value=1 - _BETA_2)
        size = self._plan.learning_rate / (1 - _BETA_1**self._steps)
        deviation = (second.sqrt() / (1 - _BETA_2**self._steps) ** 0.5).add_(_EPS)
        values.addcdiv_(first, deviation, value=-size)
