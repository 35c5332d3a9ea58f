"""The group `coordination` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import (
    BelowOne,
    Count,
    CountOrNone,
    Group,
    NonNegative,
    Positive,
    Share,
    known_or_own,
)
from fnl.config.rules import AGGREGATIONS, SELECTIONS

MODELS_A_LIAR = {"krum": 2, "multi-krum": 2, "bulyan": 4}
"""Models that a rule needs for each malicious client, beside three."""


class CoordinationGroup(Group, frozen=True):
    """Which clients are asked, which updates are taken, and with what weight."""

    candidates: Count = 12
    """d, clients asked to train in a round (on average, if `coordination.schedule` = `poisson`).
    Where it is not given and `data.clients` is less, it is `data.clients`; `coordination.selected`,
    not given either, then keeps its share of the default, rounded: of 8 clients 8 and 5. Given, it
    is at most `data.clients`."""
    schedule: Literal["random", "balanced", "poisson"] = "random"
    """Who is a candidate when: known beforehand `random` (drawn anew each round) or `balanced` (in
    turn, in an order drawn once: equally often, so that client level takes less noise); or in
    secret `poisson` (each client by itself with probability d/N, maybe nobody: client level is
    amplified by it; `privacy.mode` = `client`, `selected` = `candidates`, `random`, `fedavg`)."""
    selected: Count = 8
    """m, candidates whose update is averaged."""
    selection: Annotated[str, known_or_own(SELECTIONS)] = "rate-difference"
    """Whom of the candidates: a [rule](#selection-rules), or `module:function` of your own."""
    aggregation: Annotated[str, known_or_own(AGGREGATIONS)] = "rate-weighted"
    """How the selected are averaged: a [rule](#aggregation-rules), or `module:function` of your
    own."""
    estimate: Literal["plain", "shrunk", "filtered", "upper", "lower"] = "plain"
    """What is made of noisy scores before the best are selected: `plain` (nothing), `shrunk`
    (empirical Bayes within the round), `filtered` (a Kalman filter for each client, over the rounds
    in which it was asked), `upper` and `lower` (the filter's confidence bounds). All but `plain`
    need a rule whose noise is known, and read of a report what it says of its noise."""
    rate_gradient: NonNegative = 0.0
    """‖∇r‖ of the network's rate, by which the noise in the weights reaches rates; `fnl plan` finds
    it on public clips. 0: only the noise of `privacy.rate-release` counts as known."""
    confidence_width: NonNegative = 1.0
    """Standard deviations of the bounds of `upper` and `lower`."""
    min_reliability: Share = 0.0
    """Where the share of scores' variance that is not noise is at most this, the round selects at
    random; with `coordination.estimate` other than `plain`."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest share of the rounds in which it answers that a client may be selected in, as long as
    others are left; bounds what a client gains that lies about its rates."""
    liars: Annotated[str, Field(pattern=r"^(\d{1,9}(,\d{1,9})*)?$")] = ""
    """Partitions that lie, comma-separated, in simulations only: each reports what
    `coordination.selection` likes best and sends its update with the sign turned."""
    algorithm: Annotated[str, known_or_own(("none",))] = "none"
    """`module:Class` of your own in place of rules: it may select, weigh, step and correct what
    clients do, has options and keeps a state (`fnl.Algorithm`)."""
    options: str = ""
    """Options of `algorithm`: `tau=0.1,rounds=3`."""
    target_rate: Share = 0.1
    """The rate that `target-rate` prefers."""
    rate_band: Share = 0.0
    """Distance from it within which `target-rate` takes rates as equal (ties go to the lower
    partition)."""
    rate_offset: Positive = 0.01
    """ε of `inverse-rate`."""
    mixing: Positive = 1.0
    """κ of `afedsnn`; a client's share is at most 1 whatever κ."""
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Share of values that `trimmed-mean` cuts off at either end; at least one."""
    byzantine: CountOrNone = 1
    """f, malicious clients that `krum` and `multi-krum` (selected ≥ 2f + 3) and `bulyan` (≥ 4f + 3)
    allow for."""
    krum_average: CountOrNone = 0
    """Models that `multi-krum` averages; 0: of n that gave
    models, n − f − 2."""
    server_optimizer: Literal["none", "fedavgm", "fedadagrad", "fedadam", "fedyogi"] = "none"
    """How the server steps towards the aggregate, whatever its rule: `none` (onto it), Flower's
    `fedavgm`, `fedadagrad`, `fedadam`, `fedyogi`."""
    server_learning_rate: Positive = 0.1
    """η of the server optimizer."""
    server_momentum: BelowOne = 0.9
    """Momentum of `fedavgm`, β₁ of `fedadam` and `fedyogi`."""
    server_beta2: BelowOne = 0.99
    """β₂ of `fedadam` and `fedyogi`."""
    server_tau: Positive = 0.001
    """τ of the adaptive ones."""
    probe: bool = False
    """Two phases: candidates send their reports first, only the selected upload weights; the model
    is the same. Nobody replaces a selected client whose weights are not to be taken: the
    aggregation rule weighs the others anew."""

    minimum: CountOrNone = 0
    """Fewest usable answers with which a round goes on, else the run stops and can be resumed; 0:
    all candidates must answer (nobody must if `coordination.schedule` = `poisson`). Under
    `coordination.probe` a candidate that is asked for its weights and gives none is not usable; at
    least one of the selected must be."""
    max_update_norm: NonNegative = 0.0
    """An update longer than this (L2) is rejected; 0: one above a million."""

    @property
    def lying(self) -> tuple[int, ...]:
        """Partitions that lie, in the order given."""
        return tuple(int(number) for number in self.liars.split(",") if number)

    @property
    def least_models(self) -> int:
        """How many models `aggregation` needs to be what it says; 1 of a rule that is not robust.

        Krum n ≥ 2f + 3 and Bulyan n ≥ 4f + 3; a trimmed mean cuts off one at each end, and the
        median has one on each side, unless fewer are to be selected at all.
        """
        match self.aggregation:
            case "krum" | "multi-krum" | "bulyan":
                least = MODELS_A_LIAR[self.aggregation] * self.byzantine + 3
                averaged = self.krum_average if self.aggregation == "multi-krum" else 0
                return max(least, averaged + self.byzantine)
            case "trimmed-mean":
                counts = range(1, self.selected + 1)
                cut = (count for count in counts if int(self.trim * count) >= 1)
                return next(cut, self.selected + 1)
            case "median":
                return min(3, self.selected)
            case _:
                return 1
