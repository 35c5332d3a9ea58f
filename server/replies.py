"""The boundary where a client's reply becomes something the server computes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, MetricRecord

from fnl import exchange
from fnl.errors import RunError
from fnl.exchange import ClientReport
from fnl.weights import Weights


@dataclass(frozen=True)
class Answer:
    """One candidate's reply, parsed and checked.

    Attributes:
        report: its numbers.
        weights: its trained weights, on the message's memory.
        shadow_weights: the same without privacy; None without shadows.
        floor_weights: the same without privacy and with other draws; None if none were sent.
    """

    report: ClientReport
    weights: Weights
    shadow_weights: Weights | None
    floor_weights: Weights | None = None


def answers(
    server_round: int,
    replies: Sequence[Message],
    *,
    asked: int,
    partition_of: Mapping[int, int],
    shadow: bool,
) -> list[Answer]:
    """Return the answers of all `asked` candidates in partition order.

    Args:
        server_round: for messages.
        replies: what came back.
        asked: number of candidates.
        partition_of: node id -> partition.
        shadow: whether each must carry shadow weights.

    Raises:
        RunError: if a candidate failed, did not answer, or answered with something else.
    """
    failures = [reply for reply in replies if reply.has_error()]
    if failures or len(replies) != asked:
        reasons = [
            f"partition {partition_of.get(reply.metadata.src_node_id)}: {reply.error.reason}"
            for reply in failures
        ]
        raise RunError(
            f"round {server_round}: {len(failures)} of {asked} candidates failed, "
            f"{asked - len(replies)} did not answer"
            + "".join(f"; {reason}" for reason in reasons[:3])
        )
    parsed = []
    for reply in replies:
        try:
            parsed.append(_parse(reply, shadow=shadow))
        except RunError as error:
            partition = partition_of.get(reply.metadata.src_node_id)
            raise RunError(f"round {server_round}, partition {partition}: {error}") from None
    return sorted(parsed, key=lambda answer: answer.report.partition)


def _parse(reply: Message, *, shadow: bool) -> Answer:
    record = reply.content.get(exchange.METRICS)
    if not isinstance(record, MetricRecord):
        raise RunError("a candidate sent no report")
    report = ClientReport.from_record(record)
    weights = _weights(reply, exchange.ARRAYS)
    plain = _weights(reply, exchange.SHADOW_ARRAYS) if shadow else None
    floor = exchange.FLOOR_ARRAYS in reply.content
    return Answer(report, weights, plain, _weights(reply, exchange.FLOOR_ARRAYS) if floor else None)


def _weights(reply: Message, key: str) -> Weights:
    arrays = reply.content.get(key)
    if not isinstance(arrays, ArrayRecord):
        raise RunError(f"a candidate sent no {key}")
    return exchange.from_arrays(arrays)
