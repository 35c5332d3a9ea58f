"""The group `evaluation` of the configuration."""

from __future__ import annotations

from typing import Literal

from fnl.config.kinds import Count, Group


class EvaluationGroup(Group, frozen=True):
    """Central evaluation of the global model."""

    every: Count = 1
    """Rounds between evaluations of the global model; the last round always is."""
    split: Literal["test", "validation"] = "test"
    """`test` or `validation`."""
    shadow: bool = False
    """Also compute each candidate's non-private update from the same start, for measurement."""
    floor: bool = False
    """With shadows: also compute each candidate's non-private update with other mini-batches, as
    under another seed: how far chance alone moves rates and ranking."""
    sensitivity: bool = False
    """With shadows, privacy and `sgd`: also predict each candidate's rate shift to first order from
    its clipping and noise."""
