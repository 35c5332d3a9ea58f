"""What may be wrong with a reply, and what the server says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fnl.config import CoordinationGroup
from fnl.errors import RunError

_NAMED = 3
"""Rejections that an error names."""
REASON_LENGTH = 300
"""Characters of a client's own words that are kept."""


class FaultKind(StrEnum):
    """Why a reply was not taken."""

    NO_ANSWER = "no-answer"
    """Nothing came before the deadline: hanging, late or disconnected."""
    CRASHED = "crashed"
    """The client's program failed or died."""
    LATE = "late"
    """An answer to the message of another round."""
    DUPLICATE = "duplicate"
    """A second answer to the same message; the first is taken."""
    STRANGER = "stranger"
    """An answer of somebody who was not asked."""
    REFUSED = "refused"
    """The client did not train: its budget is spent, say."""
    MALFORMED = "malformed"
    """Something is missing, unknown or not to be read."""
    WRONG_PARTITION = "wrong-partition"
    """The report is in another client's name."""
    IMPOSSIBLE = "impossible-report"
    """A number that cannot be: a rate above 1, a negative count."""
    LEDGER = "ledger-backwards"
    """The client claims to have spent less than it had before."""
    WRONG_SHAPE = "wrong-shape"
    NOT_FINITE = "not-finite"
    TOO_LARGE = "too-large"
    """The update is longer than `coordination.max-update-norm`, or than any training makes it."""
    NO_WEIGHTS = "no-weights"
    """Of no reply: the aggregation rule gave every selected client the weight 0."""
    UNUSABLE = "unusable-model"
    """Of no reply: the aggregate is not finite, or of too few models for a robust rule. The model
    stays as it was."""


ABSENT = (FaultKind.NO_ANSWER, FaultKind.CRASHED, FaultKind.REFUSED)
"""Kinds of which the client gave nothing, rather than something that was not to be taken."""


OF_THE_ROUND = (FaultKind.NO_WEIGHTS, FaultKind.UNUSABLE)
"""Kinds that speak of no reply."""


@dataclass(frozen=True)
class Rejection:
    """A reply that was not taken, or what went wrong with a round.

    Attributes:
        partition: whose; None of a stranger, and of the round itself.
        kind: what is wrong.
        reason: in words, on one line.
    """

    partition: int | None
    kind: FaultKind
    reason: str

    def __str__(self) -> str:
        whose = "" if self.kind in OF_THE_ROUND else f"partition {self.partition}: "
        return f"{whose}{self.kind}: {self.reason}"


def by_partition(rejection: Rejection) -> tuple[bool, int]:
    """Order rejections by partition, those of strangers last: the same whoever was faster."""
    return (rejection.partition is None, rejection.partition or 0)


class RejectedError(Exception):
    """Raised where a reply turns out not to be taken; caught at the boundary."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def one_line(text: str) -> str:
    """Return a client's words on one line, cut, without what would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text[:REASON_LENGTH])


def require_enough(
    settings: CoordinationGroup, server_round: int, usable: int, rejections: Sequence[Rejection]
) -> None:
    """Let a round go on in which at least `coordination.minimum` candidates can be used.

    Args:
        settings: the group `coordination` of the configuration.
        server_round: for the message.
        usable: candidates of whom nothing that was asked for is missing.
        rejections: what was wrong with the others.

    Raises:
        RunError: if too few are left.
    """
    asked, minimum = settings.candidates, settings.minimum
    if usable >= (minimum or asked):
        return
    reasons = "; ".join(str(rejection) for rejection in rejections[:_NAMED])
    rule = (
        f"coordination.minimum = {minimum} are needed"
        if minimum
        else "coordination.minimum = 0 needs all"
    )
    raise RunError(
        f"round {server_round}: {asked - usable} of {asked} candidates failed, {rule}; {reasons}"
    )
