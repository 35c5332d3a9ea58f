"""A round of one of Flower's own strategies on models that are here already."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.exception import AggregationError, InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg

from fnl.errors import RunError
from fnl.weights import Weights
from fnl.wire import exchange

WEIGHT = "weight"
"""The metric that Flower weighs by."""
_NODE = 1


def flower_aggregate(
    strategy: FedAvg, server_round: int, models: Sequence[Weights], weights: Sequence[float]
) -> Weights:
    """Return what `strategy` makes of `models` as a round's replies, in single precision.

    Args:
        strategy: one that weighs by `WEIGHT`; it keeps what it keeps between rounds.
        server_round: the round's number.
        models: the replies' arrays.
        weights: the replies' weights.

    Raises:
        RunError: if the strategy refuses them.
    """
    replies = [_reply(model, weight) for model, weight in zip(models, weights, strict=True)]
    try:
        arrays, _metrics = strategy.aggregate_train(server_round, replies)
    except (AggregationError, InconsistentMessageReplies) as error:
        raise RunError(f"Flower's {type(strategy).__name__}: {error}") from None
    if arrays is None:
        raise RunError(f"Flower's {type(strategy).__name__} refuses {len(replies)} models")
    return exchange.from_arrays(arrays)


def _reply(model: Weights, weight: float) -> Message:
    content = RecordDict(
        {
            exchange.ARRAYS: exchange.to_arrays(model),
            exchange.METRICS: MetricRecord({WEIGHT: float(weight)}),
        }
    )
    return Message(content, _NODE, MessageType.TRAIN)
