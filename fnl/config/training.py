"""The group `training` of the configuration."""

from __future__ import annotations

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
    proximal_mu: NonNegative = 0.0
    """μ of FedProx: the pull of every step towards the global model; 0: none."""
