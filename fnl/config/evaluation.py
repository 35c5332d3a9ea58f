"""The group `evaluation` of the configuration."""

from __future__ import annotations

from typing import Literal

from fnl.config.kinds import BelowOne, Count, Group


class EvaluationGroup(Group, frozen=True):
    """Central evaluation of the global model."""

    every: Count = 1
    """Rounds between evaluations of the global model; the last round always is."""
    split: Literal["test", "validation"] = "test"
    """`test` or `validation`."""
    average: BelowOne = 0.0
    """Decay of a moving average of the global models: that is what is evaluated and kept, while
    clients go on from the last one; costs no privacy. 0: the last one."""
    shadow: bool = False
    """Also compute each candidate's non-private update from the same start, for measurement."""
    floor: bool = False
    """With shadows: also compute each candidate's non-private update with other mini-batches, as
    under another seed: how far chance alone moves rates and ranking."""
    sensitivity: bool = False
    """With shadows, privacy and `sgd`: also predict each candidate's rate shift to first order from
    its clipping and noise."""
