"""The group `coordination` of the configuration."""

from __future__ import annotations

from typing import Literal

from fnl.config.kinds import Count, Group


class CoordinationGroup(Group, frozen=True):
    """Which clients are asked, which updates are taken, and with what weight."""

    candidates: Count = 12
    selected: Count = 8
    selection: Literal["random", "rate-difference"] = "rate-difference"
    aggregation: Literal["fedavg", "rate-weighted"] = "rate-weighted"
