"""The group `training` of the configuration."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Count, Group, NonNegative, Positive


class TrainingGroup(Group, frozen=True):
    """Local training on a client."""

    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: Positive = 0.005
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_size: Count = 128
    """Expected size of a Poisson-sampled mini-batch."""
    local_epochs: Positive = 2.0
    """Expected passes over a client's clips in a round; fractions are fine."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate falls over the rounds of the run; cosine ends at zero."""
    weight_decay: NonNegative = 0.0
    """Decoupled, of matrices and kernels."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augmentation: bool = False
    """Draw every clip a little longer, higher or noisier, anew for each mini-batch."""

    def learning_rate_of(self, server_round: int, rounds: int) -> float:
        """Return the learning rate of a round, from 1 to `rounds`."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (server_round - 1) / rounds))

    proximal_mu: NonNegative = 0.0
    """μ of FedProx: the pull of every step towards the global model; 0: none."""
