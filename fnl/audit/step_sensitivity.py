"""How far one clip moves the steps of a client's real training, each from the same weights.

A round has many steps, and those behind the first start from weights that the clip has moved: by
what was released, which the ledger has booked. What has to be bounded is each step's sum given all
sums before it. So the training without the clip is given, after each of its own sums has been taken
down, the sum of the training with it: both go the same way, whatever the optimizer does of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fnl.audit.sensitivity import Sensitivity
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.privacy.budget import Noise
from fnl.randomness import Purpose, torch_stream
from fnl.training.client import LocalTraining
from fnl.training.sampling import poisson_samples
from fnl.training.shared_noise import shared_sum_of
from fnl.training.start import start_network
from fnl.weights import Weights, get_weights

_STILL = 1e-6
"""Rate of an adaptive bound: it then tells what was counted, and stands still for the sums."""


def first_weights(config: Config, federation: Federation) -> Weights:
    """Return the weights that a run starts from."""
    return get_weights(start_network(config, federation))


def batches_of(config: Config, federation: Federation, *, partition: int = 0) -> list[list[int]]:
    """Return the mini-batches of a client's first round, as a seeded run draws them."""
    path = (1, partition)
    client = LocalTraining(config, federation, path)
    source = torch_stream(config.run.seed, Purpose.BATCHES, *path)
    plan = client.plan
    return list(poisson_samples(client.units.count, plan.sample_rate, plan.steps, source))


def step_sensitivity(
    config: Config,
    federation: Federation,
    removed: Sequence[int],
    batches: Sequence[list[int]],
    *,
    partition: int = 0,
    weights: Weights | None = None,
) -> list[Sensitivity]:
    """Return how far clips move each step's clipped sum, and the count of an adaptive bound.

    Args:
        config: all of it counts. But secure noise gives way to seeded, for what clips draw has to
            be drawn twice, and an adaptive bound stands still.
        federation: holds the client's clips.
        removed: the client's units, one removed at a time: rows of clips, or speakers by number.
        batches: units of the mini-batch of each step.
        partition: the client.
        weights: where the round starts; None: where the run starts.

    Raises:
        ConfigError: if a clip to remove is in no mini-batch, or none is given.
    """
    if not removed or not set(removed) <= {row for rows in batches for row in rows}:
        raise ConfigError(
            f"{config.privacy.unit}s {list(removed)} to remove: they have to be in a mini-batch"
        )
    start = first_weights(config, federation) if weights is None else weights
    with_all = _Round(config, federation, (1, partition), start, batches)
    steps, counted = with_all.train()
    present = np.array([[unit in drawn for drawn in batches] for unit in removed])
    ratios, counts = np.empty(present.shape), np.empty((len(removed), 1))
    for place, gone in enumerate(removed):
        others, count = with_all.train(without=gone, like=steps)
        moved = [with_all.moved(a, b) for a, b in zip(steps, others, strict=True)]
        ratios[place] = np.array(moved) / config.privacy.clip_norm
        counts[place] = abs(counted - count) / (0.5 * present[place].sum())
    bound, gone, unit = config.privacy.clip_norm, tuple(removed), config.privacy.unit
    found = [Sensitivity("sensitivity-gradients", bound, gone, ratios, present, unit=unit)]
    if config.privacy.clipping == "adaptive":
        taken_part = np.ones_like(counts, dtype=bool)
        found.append(Sensitivity("sensitivity-count", 0.5, gone, counts, taken_part, unit=unit))
    return found


class _Round:
    """One client's round without noise, over and over.

    Attributes:
        divisor: q·n_k, by which the sum of each step is divided: public.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        path: tuple[int, int],
        weights: Weights,
        batches: Sequence[list[int]],
    ) -> None:
        changes = {"secure_noise": False, "clip_learning_rate": _STILL}
        privacy = config.privacy.model_copy(update=changes)
        self._config = config.model_copy(update={"privacy": privacy})
        self._federation, self._path = federation, path
        self._weights, self._batches = weights, batches
        client = LocalTraining(self._config, federation, path)
        self._clips = client.features, client.labels
        self._units = client.units
        self.divisor = client.plan.sample_rate * client.units.count

    def moved(self, one: Tensor, other: Tensor) -> float:
        """Return how far two steps' sums are apart; of integers, in parts of their bound.

        Under shared noise they are rounded first, and Δ takes the place of C.
        """
        sums = [self.divisor * gradient.numpy() for gradient in (one, other)]
        if not self._config.shares_noise:
            return float(np.linalg.norm(sums[0] - sums[1]))
        shared = shared_sum_of(self._config, len(one))
        apart = np.linalg.norm((shared.rounded(sums[0]) - shared.rounded(sums[1])).astype(float))
        return float(apart / shared.sensitivity * self._config.privacy.clip_norm)

    def train(
        self, without: int | None = None, like: Sequence[Tensor] = ()
    ) -> tuple[list[Tensor], float]:
        """Return the gradient of each step, and what an adaptive bound has counted in all.

        Args:
            without: a unit that is nothing: nan, of no class, in no mini-batch.
            like: gradients to go on with in place of one's own.
        """
        features, labels = (part.clone() for part in self._clips)
        if without is not None:
            rows = self._units.rows(without)
            features[rows], labels[rows] = torch.nan, -1
        client = LocalTraining(self._config, self._federation, self._path, clips=(features, labels))
        steps = _Steps(like)
        _, summary = client.train(
            self._weights,
            Noise(0.0),
            batches=[[unit for unit in drawn if unit != without] for drawn in self._batches],
            watch=steps,
        )
        start = self._config.privacy.clip_norm
        moved = math.log((summary.clip_norm or start) / start)  # −η times what was counted, over B̄
        return steps.taken, -moved / _STILL * self.divisor


class _Steps:
    """Takes down the gradient of each step, and has the optimizer go on with another."""

    def __init__(self, like: Sequence[Tensor]) -> None:
        self.taken: list[Tensor] = []
        self._like = like

    def __call__(self, optimizer: torch.optim.Optimizer) -> None:
        """See `fnl.training.dp_sgd.Watch`."""
        given = [
            parameter.grad for group in optimizer.param_groups for parameter in group["params"]
        ]
        gradients = [gradient for gradient in given if gradient is not None]
        self.taken.append(torch.cat([gradient.reshape(-1).double() for gradient in gradients]))
        if self._like:
            like = self._like[len(self.taken) - 1].split([g.numel() for g in gradients])
            for gradient, other in zip(gradients, like, strict=True):
                gradient.copy_(other.view_as(gradient))
