"""The group `coordination` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fnl.config.kinds import Count, Group, NonNegative, Positive, known_or_own
from fnl.config.rules import AGGREGATIONS, SELECTIONS

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class CoordinationGroup(Group, frozen=True):
    """Which clients are asked, which updates are taken, and with what weight."""

    candidates: Count = 12
    selected: Count = 8
    selection: str = "rate-difference"
    """A name in `SELECTIONS`, or `module:function` of one's own."""
    aggregation: str = "rate-weighted"
    """A name in `AGGREGATIONS`, or `module:function` of one's own."""
    target_rate: Share = 0.1
    """Firing rate that `target-rate` prefers."""
    rate_band: Share = 0.0
    """Distance from the target within which `target-rate` does not tell rates apart."""
    rate_offset: Positive = 0.01
    """ε of `inverse-rate`: w ∝ n / (r + ε)."""
    mixing: Positive = 1.0
    """κ of `afedsnn`."""
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Share of values that `trimmed-mean` cuts off at either end."""
    byzantine: Annotated[int, Field(ge=0)] = 1
    """f, the number of malicious clients that `krum`, `multi-krum` and `bulyan` allow for."""
    krum_average: Annotated[int, Field(ge=0)] = 0
    """Models that `multi-krum` averages; 0: selected - byzantine - 2."""
    server_optimizer: Literal["none", "fedavgm", "fedadagrad", "fedadam", "fedyogi"] = "none"
    """How the server steps towards the aggregate; `none`: onto it."""
    server_learning_rate: Positive = 0.1
    server_momentum: Decay = 0.9
    """Momentum of `fedavgm`, β₁ of `fedadam` and `fedyogi`."""
    server_beta2: Decay = 0.99
    """β₂ of `fedadam` and `fedyogi`."""
    server_tau: Positive = 0.001
    """τ, the adaptivity of `fedadagrad`, `fedadam` and `fedyogi`."""
    probe: bool = False
    """Candidates send their reports first; only the selected are then asked for their weights."""

    minimum: Annotated[int, Field(ge=0)] = 0
    """Fewest usable answers with which a round goes on; 0: all candidates'."""
    max_update_norm: NonNegative = 0.0
    """Longest update that is taken, in L2 norm; 0: any that is finite."""

    @field_validator("selection")
    @classmethod
    def _selection_is_there(cls, value: str) -> str:
        return known_or_own(value, tuple(SELECTIONS))

    @field_validator("aggregation")
    @classmethod
    def _aggregation_is_there(cls, value: str) -> str:
        return known_or_own(value, tuple(AGGREGATIONS))
