"""The selected models become one: by shares, or by one of Flower's robust rules."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.serverapp.strategy import FedAvg

from fnl.weights import Weights, weighted_mean
from fnl.wire.report import ClientReport
from server.aggregation.flower_strategy import flower_aggregate
from server.aggregation.interface import Shares


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
    if rule.kept > 0:
        return weighted_mean([before, *models], [rule.kept, *shares])
    return weighted_mean(models, shares)
