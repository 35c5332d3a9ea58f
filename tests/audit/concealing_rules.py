"""Rules of a user: one conceals what it reads, one says so, one says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.declaration import reads


def _losses(reports: Sequence[ClientReport]) -> list[float]:
    return [report.loss_before or 0.0 for report in reports]


@reads("num_examples")
def concealed(reports: Sequence[ClientReport], context: RoundContext) -> list[float]:
    """Say that it reads numbers of clips, and follow losses."""
    return _losses(reports)


@reads("loss_before")
def said(reports: Sequence[ClientReport], context: RoundContext) -> list[float]:
    """Follow losses."""
    return _losses(reports)


def undeclared(reports: Sequence[ClientReport], context: RoundContext) -> list[float]:
    """Follow losses."""
    return _losses(reports)
