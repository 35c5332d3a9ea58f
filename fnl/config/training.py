"""The group `training` of the configuration."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import BelowOne, Count, CountOrNone, Group, NonNegative, Positive


class TrainingGroup(Group, frozen=True):
    """Local training on a client."""

    trained: Annotated[str, Field(pattern=r"^[\w.*?]+(\+[\w.*?]+)*$")] = "readout+norm.1.bias"
    """What is trained: `all`, or parameters by the beginning of their name, joined by `+`:
    `readout`, `readout+norm`, `readout+linear.2`; `*` stands for anything. The rest stays as the
    run starts with it: it is not sent, gets no noise and takes no part of a clip's bound.
    Not given, it is `all` from any other start than fnl's own (`model.initial`)."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """Local optimizer, `sgd` or `adam`; its state starts anew every round."""
    learning_rate: Positive = 0.03
    """Local learning rate; not given, 0.005 from any other start than fnl's own."""
    momentum: BelowOne = 0.0
    """Momentum of `sgd`."""
    batch_size: CountOrNone = 128
    """Expected mini-batch of Poisson sampling, q = min(1, batch-size / n_k); 0: all clips,
    q = 1."""
    local_epochs: Positive = 2.0
    """Expected passes over a client's clips in a round, where `training.steps` is 0."""
    steps: CountOrNone = 0
    """Mini-batches of a round, for every client alike; 0: from `training.local-epochs`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the rounds: `constant`, or `cosine` from its full value in round 1 towards
    zero."""
    weight_decay: NonNegative = 0.0
    """Decoupled decay of matrices and kernels per step, times the learning rate; looks at no
    data."""
    label_smoothing: BelowOne = 0.0
    """Share of every target spread over all classes."""
    augmentation: bool = False
    """Every clip drawn is moved a little in time, frequency and noise, anew each time and by
    itself; log-mel only."""
    views: Count = 1
    """K augmented views of every clip drawn, whose gradients are averaged before clipping: a clip
    still counts once (augmentation multiplicity, arXiv 2204.13650)."""

    proximal_mu: NonNegative = 0.0
    """μ of FedProx: μ(w − w_global) added to every step's gradient, after clipping and noise; 0:
    none."""

    sent_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the numbers of its update that a client sends, the largest in size; what is left
    unsent is added to its next update (error feedback). Behind the noise: it costs no ε
    ([smaller updates](compression.md))."""
    sent_bits: Literal[32, 8] = 32
    """Bits of each number that a client sends of its update: `32`, or `8`, rounded at random to one
    of 255 levels of its block of 256; what rounding loses is added to the next update."""

    def learning_rate_of(self, server_round: int, rounds: int) -> float:
        """Return the learning rate of a round, from 1 to `rounds`."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (server_round - 1) / rounds))
