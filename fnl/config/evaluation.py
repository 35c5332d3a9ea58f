"""The group `evaluation` of the configuration."""

from __future__ import annotations

from typing import Literal

from fnl.config.kinds import Count, Group


class EvaluationGroup(Group, frozen=True):
    """Central evaluation of the global model."""

    every: Count = 1
    """Rounds between evaluations; the last round is always evaluated."""
    split: Literal["test", "validation"] = "test"
    shadow: bool = False
    """Also compute each candidate's non-private update from the same start; simulation only."""
    floor: bool = False
    """Also compute a second non-private update with other draws: how far chance alone moves."""
    sensitivity: bool = False
    """Also predict each candidate's rate shift to first order (arXiv 2602.12009)."""
