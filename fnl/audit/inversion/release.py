"""One update of a client, and the gradient that whoever sees it reads from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fnl.audit.claims import Claim
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.training.client import LocalTraining
from fnl.weights import Weights


@dataclass(frozen=True)
class Update:
    """What one step on a few clips of a client releases, and what it was made of.

    Attributes:
        gradients: the sum of the step's gradients as it can be read from the weights: clipped, and
            with noise, under a private claim; by name.
        features: [B, T, F], the clips of the step; the attacker must not look.
        labels: int64 [B], nor here.
    """

    gradients: dict[str, Tensor]
    features: Tensor
    labels: Tensor

    @property
    def label(self) -> int:
        """The label that the read-out's gradient points at.

        What enters the read-out is not negative, so the row of the clip's label is the one with a
        negative gradient (Zhao et al. 2020, arXiv 2001.02610).
        """
        return int(self.gradients["readout.linear.weight"].sum(1).argmin())


def released_update(
    config: Config,
    federation: Federation,
    claim: Claim,
    weights: Weights,
    rows: Sequence[int],
    *,
    partition: int,
    number: int,
) -> Update:
    """Return the update of the client's own step in which it happens to draw `rows`.

    Everything else, noise, clipping and divisor among it, is as in any round of this client.

    Args:
        config: of the run.
        federation: holds the client's clips.
        claim: of the client.
        weights: before the step, as everybody knows them.
        rows: of the client's clips.
        partition: the client.
        number: of the update; each has a noise of its own.
    """
    local = LocalTraining(config, federation, (1, partition, number))
    after, _ = local.train(weights, claim.noise, batches=[list(rows)])
    plan, gradients = local.plan, {}
    for name, before in weights.items():
        moved = torch.from_numpy((before.astype("f8") - after[name]) / plan.learning_rate)
        if (decay := plan.options.weight_decay) and before.ndim > 1:
            moved -= decay * torch.from_numpy(before.astype("f8"))
        gradients[name] = (moved * plan.sample_rate * local.units.count).float()
    return Update(gradients, local.features[list(rows)], local.labels[list(rows)])
