"""What a round of training was, as the server saw it: what is recorded is made of this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fnl.weights import Weights
from fnl.wire.report import ClientReport
from server.context import History
from server.coordination import Coordination
from server.replies.rejections import FaultKind, Rejection


@dataclass(frozen=True)
class Decided:
    """What the rules made of one reading of the reports: as sent, of shadows, or of floors.

    Attributes:
        decision: scores, selection and weights.
        after: the global weights that come of it; None if nobody that was selected gave weights.
    """

    decision: Coordination
    after: Weights | None


@dataclass(frozen=True)
class GlobalRound:
    """One round of training as the server saw it.

    Attributes:
        number: of the round, from 1.
        reports: the candidates' reports in partition order.
        decision: scores, selection and weights.
        before: global weights the round started from.
        after: global weights it ended with.
        shadow: what had come of the candidates' non-private rates and updates; None without.
        floor: the same with other draws; None without.
        history: who was selected so far, this round included.
        average: moving average of the global models so far; None where none is kept.
        bytes_down: bytes of all records sent to clients.
        bytes_up: bytes of all records that were taken, but for those of shadows.
        rejections: what was wrong with replies, and with the round itself. Whose upload was, in a
            round with a probe, is among `reports` and not among the selected.
        assumed: ε that each rejected client is taken to have spent; None where nothing is assumed.
        epsilon_client: the largest client-level ε so far; None without client-level privacy.
    """

    number: int
    reports: tuple[ClientReport, ...]
    decision: Coordination
    before: Weights
    after: Weights
    history: History
    average: Weights | None = None
    shadow: Decided | None = None
    floor: Decided | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    rejections: tuple[Rejection, ...] = ()
    assumed: tuple[float | None, ...] = ()
    epsilon_client: float | None = None


def noted(decision: Coordination, after: Weights, lacking: str) -> list[Rejection]:
    """Return what went wrong with a round beside its replies."""
    wrong = []
    if decision.note:
        wrong.append(Rejection(None, FaultKind.NO_WEIGHTS, decision.note))
    if lacking:
        wrong.append(Rejection(None, FaultKind.UNUSABLE, lacking))
    if not all(np.isfinite(value).all() for value in after.values()):
        reason = "the aggregate is not finite: the model stays as it was"
        wrong.append(Rejection(None, FaultKind.UNUSABLE, reason))
    return wrong
