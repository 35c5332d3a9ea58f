"""Replies that have passed the boundary (`vetting.py`), as what the server computes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, MetricRecord

from fnl.errors import RunError
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport


@dataclass(frozen=True)
class Answer:
    """One candidate's reply, parsed and checked.

    Attributes:
        report: its numbers.
        weights: its trained weights, on the message's memory; None while they wait on the client.
        shadow_weights: the same without privacy; None without shadows.
        floor_weights: the same without privacy and with other draws; None if none were sent.
    """

    report: ClientReport
    weights: Weights | None
    shadow_weights: Weights | None
    floor_weights: Weights | None = None


def answers(
    server_round: int,
    replies: Sequence[Message],
    *,
    asked: int,
    partition_of: Mapping[int, int],
    weights: bool = True,
    shadow: bool,
) -> list[Answer]:
    """Return the answers in partition order.

    Args:
        server_round: for messages.
        replies: what came back.
        asked: number of candidates; the answers of some may not have been taken.
        partition_of: node id -> partition.
        weights: whether each must carry its weights.
        shadow: whether each must carry shadow weights.

    Raises:
        RunError: if a reply is none of a candidate's.
    """
    if len(replies) > asked:
        raise RunError(f"round {server_round}: {len(replies)} answers of {asked} candidates")
    parsed = []
    for reply in replies:
        try:
            parsed.append(_parse(reply, weights=weights, shadow=shadow))
        except RunError as error:
            partition = partition_of.get(reply.metadata.src_node_id)
            raise RunError(f"round {server_round}, partition {partition}: {error}") from None
    return sorted(parsed, key=lambda answer: answer.report.partition)


def _parse(reply: Message, *, weights: bool, shadow: bool) -> Answer:
    record = reply.content.get(exchange.METRICS)
    if not isinstance(record, MetricRecord):
        raise RunError("a candidate sent no report")
    report = ClientReport.from_record(record)
    floor = weights and exchange.FLOOR_ARRAYS in reply.content
    return Answer(
        report,
        _weights(reply, exchange.ARRAYS) if weights else None,
        _weights(reply, exchange.SHADOW_ARRAYS) if shadow else None,
        _weights(reply, exchange.FLOOR_ARRAYS) if floor else None,
    )


def _weights(reply: Message, key: str) -> Weights:
    arrays = reply.content.get(key)
    if not isinstance(arrays, ArrayRecord):
        raise RunError(f"a candidate sent no {key}")
    return exchange.from_arrays(arrays)
