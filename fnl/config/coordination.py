"""The group `coordination` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Count, Group, NonNegative


class CoordinationGroup(Group, frozen=True):
    """Which clients are asked, which updates are taken, and with what weight."""

    candidates: Count = 12
    selected: Count = 8
    selection: Literal["random", "rate-difference"] = "rate-difference"
    aggregation: Literal["fedavg", "rate-weighted"] = "rate-weighted"
    minimum: Annotated[int, Field(ge=0)] = 0
    """Fewest usable answers with which a round goes on; 0: all candidates'."""
    max_update_norm: NonNegative = 0.0
    """Longest update that is taken, in L2 norm; 0: any that is finite."""
