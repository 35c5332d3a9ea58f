"""From what an aggregation rule returns to shares, checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.errors import RunError
from fnl.wire.report import ClientReport
from server.aggregation.interface import AggregationRule, Mixing, Shares
from server.context import RoundContext

_ROUNDING = 1e-9


def shares_of(
    reports: Sequence[ClientReport], rule: AggregationRule, context: RoundContext, *, name: str
) -> Shares:
    """Return the shares of the selected clients, of weights normalised to sum to one.

    Args:
        reports: the selected clients', best first.
        rule: the aggregation rule.
        context: the round.
        name: of the rule, for messages.

    Raises:
        RunError: if a weight is negative or not finite, there is another number of them, or all
            are zero; or if shares of a mixing sum to more than one.
    """
    returned = rule(reports, context)
    if not isinstance(returned, Mixing):
        weights = _checked(returned, reports, name)
        return Shares(weights / weights.sum())
    shares = _checked(returned.shares, reports, name)
    if shares.sum() > 1 + _ROUNDING:
        raise RunError(
            f"the aggregation rule {name!r} mixes in shares that sum to {shares.sum()}: at most 1"
        )
    return Shares(shares, kept=max(0.0, 1.0 - float(shares.sum())))


def _checked(returned: object, reports: Sequence[ClientReport], name: str) -> NDArray[np.float64]:
    try:
        weights = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError):
        raise RunError(
            f"the aggregation rule {name!r} returned {type(returned).__name__}: it must return "
            "one weight a client"
        ) from None
    if weights.shape != (len(reports),):
        raise RunError(
            f"the aggregation rule {name!r} returned weights of shape {weights.shape} for "
            f"{len(reports)} clients: it must return one weight a client"
        )
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise RunError(
            f"the aggregation rule {name!r} gave partition {reports[int(bad[0])].partition} the "
            f"weight {weights[bad[0]]}: weights must be finite and not negative"
        )
    if weights.sum() == 0:
        raise RunError(
            f"the aggregation rule {name!r} gave every selected client the weight 0 (are all "
            "networks silent?): lower model.threshold or use coordination.aggregation = 'fedavg'"
        )
    return weights
