"""The group `run` of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fnl.config.kinds import Count, Group, Positive


class RunGroup(Group, frozen=True):
    """What is run, where it is written, and the seed of every random stream."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")] = ""
    """Name of the run directory; empty: made from the configuration, never reused."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rounds: Count = 30
    results_dir: Annotated[str, Field(min_length=1)] = "results"
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Rounds between checkpoints; 0: only where a run fails."""
    reply_timeout: Positive = 86400.0
    """Seconds that a round waits for its candidates."""
    tensorboard: bool = False
    """Also write the rounds as TensorBoard events."""
    strict_privacy: bool = False
    """A client sends nothing that is not public or in its ledger."""
