"""Shares of the selected models in the next one: what a rule returns, checked and applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fnl.errors import RunError, running
from fnl.weights import Weights, weighted_mean
from fnl.wire.report import ClientReport
from server.aggregation.flower import flower_aggregate
from server.context import RoundContext
from server.declaration import numbers_of, reads_of

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Mixing:
    """Shares of the selected models in the next global one; what they leave stays as it was.

    Attributes:
        shares: float64 [m], not negative, with a sum of at most 1.
    """

    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """What a rule returned, checked.

    Attributes:
        clients: share of each selected model, float64 [m].
        kept: share of the global model itself; 0 for a rule that gives weights, and below where
            the others' shares are of a sum that more came to than expected.
        note: what a user should know of how they came about; empty for nothing.
    """

    clients: NDArray[np.float64]
    kept: float = 0.0
    note: str = ""


AggregationRule = Callable[[Sequence[ClientReport], RoundContext], NDArray[np.float64] | Mixing]


def shares_of(
    reports: Sequence[ClientReport], rule: AggregationRule, context: RoundContext, *, name: str
) -> Shares:
    """Return the shares of the selected clients, of weights normalised to sum to one.

    Weights that are all zero end no run, for one client alone may bring that about: the clients
    count by their clips then, or, for a rule that does not read these, the model stays as it was.

    Args:
        reports: the selected clients', best first.
        rule: the aggregation rule.
        context: the round.
        name: of the rule, for messages.

    Raises:
        RunError: if a weight is negative or not finite, or there is another number of them; or if
            shares of a mixing sum to more than one.
    """
    with running(f"the aggregation rule {name!r} failed", raises=RunError):
        returned = rule(reports, context)
    if not isinstance(returned, Mixing):
        weights = _checked(returned, reports, name)
        total = weights.sum()
        return Shares(weights / total) if total > 0 else _without_weights(reports, rule, name)
    shares = _checked(returned.shares, reports, name)
    if shares.sum() > 1 + _ROUNDING:
        raise RunError(
            f"the aggregation rule {name!r} mixes in shares that sum to {shares.sum()}: at most 1"
        )
    note = "" if shares.any() else f"the aggregation rule {name!r} mixed nobody in"
    return Shares(shares, max(0.0, 1.0 - float(shares.sum())), note)


def combine(
    server_round: int,
    reports: Sequence[ClientReport],
    models: Sequence[Weights],
    rule: Shares | FedAvg,
    *,
    before: Weights,
) -> Weights:
    """Return the aggregate of `models`.

    Args:
        server_round: the round's number.
        reports: the selected clients', best first.
        models: theirs, in the same order.
        rule: their shares, or a strategy of Flower's that combines them.
        before: the global model, which a mixing keeps a share of.

    Raises:
        RunError: if Flower's strategy refuses them.
    """
    if isinstance(rule, FedAvg):
        # in partition order: rounding must not depend on who scored best
        order = sorted(range(len(reports)), key=lambda position: reports[position].partition)
        clips = [float(reports[position].num_examples) for position in order]
        return flower_aggregate(rule, server_round, [models[p] for p in order], clips)
    shares = rule.clients.tolist()
    if rule.kept:
        return weighted_mean([before, *models], [rule.kept, *shares])
    return weighted_mean(models, shares)


def _checked(returned: object, reports: Sequence[ClientReport], name: str) -> NDArray[np.float64]:
    rule = f"the aggregation rule {name!r}"
    weights = numbers_of(returned, len(reports), rule, "weight", "client")
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise RunError(
            f"{rule} gave partition {reports[int(bad[0])].partition} the weight "
            f"{weights[bad[0]]}: weights must be finite and not negative"
        )
    return weights


def _without_weights(reports: Sequence[ClientReport], rule: AggregationRule, name: str) -> Shares:
    reads = reads_of(rule)
    said = f"the aggregation rule {name!r} gave every selected client the weight 0"
    if reads is not None and "num_examples" not in reads:
        return Shares(np.zeros(len(reports)), 1.0, f"{said}: the model stays as it was")
    clips = np.array([report.num_examples for report in reports], dtype=np.float64)
    hint = "are all networks silent? lower model.threshold"
    return Shares(clips / clips.sum(), note=f"{said}, they count by their clips ({hint})")
