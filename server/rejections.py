"""What may be wrong with a reply, and what the server says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    """The update is longer than `coordination.max-update-norm`."""


@dataclass(frozen=True)
class Rejection:
    """A reply that was not taken.

    Attributes:
        partition: whose; None of a stranger.
        kind: what is wrong.
        reason: in words, on one line.
    """

    partition: int | None
    kind: FaultKind
    reason: str

    def __str__(self) -> str:
        return f"partition {self.partition}: {self.kind}: {self.reason}"


class RejectedError(Exception):
    """Raised where a reply turns out not to be taken; caught at the boundary."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def one_line(text: str) -> str:
    """Return a client's words on one line, cut, without what would steer a terminal."""
    visible = "".join(char if char.isprintable() else " " for char in text)
    return visible[:REASON_LENGTH]
