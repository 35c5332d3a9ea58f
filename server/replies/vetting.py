"""The boundary: which of a round's replies are taken, and what is wrong with the others.

Nothing a client sends is used before it has passed here, and nothing it sends stops the round by
itself. Everything is checked against what the server knows without the client: whom it asked,
which arrays the global model has, and what the client said of its ledger before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from fnl.config import Config
from fnl.errors import FnlError
from fnl.privacy.ledger import Ledger
from fnl.privacy.prv import EPS_ERROR
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.compressed import Packing
from fnl.wire.incoming import all_nan
from fnl.wire.report import ClientReport
from server.replies.arrays import content_bytes, parse_models
from server.replies.masked import parse_masked
from server.replies.planned import check_plan
from server.replies.rejections import FaultKind, RejectedError, Rejection, by_partition, one_line

Parsed = TypeVar("Parsed")

_ROUNDING = 1e-9
"""Relative difference of an ε that is the same ledger's."""
_TOLD = 5
"""Rejections of one client, or of strangers, that are told of each kind in a round."""
_UNREACHABLE = (
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
)


@dataclass(frozen=True)
class Answer:
    """One candidate's reply, parsed and checked.

    Attributes:
        report: its numbers.
        models: its weights by the key they were sent under, on the message's memory.
        size: bytes of its records.
        masked: its part of a sum under shared noise, [P], in place of weights.
    """

    report: ClientReport
    models: Mapping[str, Weights]
    size: int
    masked: NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class Shape:
    """What reports of a run are like.

    Attributes:
        layers: spiking layers of the network.
        classes: labels.
        clips: n_k of each partition; None where the server does not know them.
    """

    layers: int
    classes: int
    clips: Sequence[int] | None = None


@dataclass(frozen=True)
class Expected:
    """What the server knows of a round's replies before they come.

    Attributes:
        partition_of: node id -> partition, of those that were asked.
        messages: id of each message that asked them -> the node it went to.
        like: the global weights: names and shapes.
        models: keys of the weights that a reply must carry; any others are checked as well.
        entries: names in `fnl.wire.report.ENTRIES` that a report must have.
        shape: of the reports.
        epsilons: partition -> ε that it last reported.
        max_update_norm: bound on the L2 norm of an update; 0: `LARGEST_UPDATE`.
        accountant: by which clients count, "rdp" or "prv".
        config: of the run: what a client does in a round follows from it and its clips. None:
            nothing is known of that.
        booked: partition -> rounds that count as spent before this one, in a simulation.
    """

    partition_of: Mapping[int, int]
    messages: Mapping[str, int]
    like: Weights
    models: Sequence[str]
    entries: frozenset[str]
    shape: Shape
    epsilons: Mapping[int, float]
    max_update_norm: float
    accountant: str = "rdp"
    config: Config | None = None
    booked: Mapping[int, int] = field(default_factory=dict)


def vet(replies: Iterable[Message], expected: Expected) -> tuple[list[Answer], list[Rejection]]:
    """Return the answers to take, in partition order, and everything that is wrong."""
    packing = packing_of(expected.config, expected.like) if expected.config is not None else None

    def parse(reply: Message, partition: int) -> Answer:
        report = _report(reply, partition, expected)
        if expected.config is not None and expected.config.shares_noise:
            numbers = sum(value.size for value in expected.like.values())
            masked = parse_masked(reply.content, numbers)
            return Answer(report, {}, content_bytes(reply.content), masked)
        models = parse_models(
            reply.content,
            expected.models,
            like=expected.like,
            max_update_norm=expected.max_update_norm,
            packing=packing,
        )
        report = replace(
            report,
            shadow=report.shadow if is_whole(exchange.SHADOW_ARRAYS, models, expected) else None,
            floor=report.floor if is_whole(exchange.FLOOR_ARRAYS, models, expected) else None,
        )
        return Answer(report, models, content_bytes(reply.content))

    taken, rejected = one_from_each(replies, expected.partition_of, expected.messages, parse)
    return list(taken.values()), rejected


def packing_of(config: Config, like: Weights) -> Packing | None:
    """Return how updates of weights as these come; None if they come as they are."""
    return Packing.of(config, sum(value.size for value in like.values()))


def is_whole(key: str, models: Mapping[str, Weights], expected: Expected) -> bool:
    """Return whether the weights under `key` are there, if they are to come with the reply."""
    return key in models or key not in expected.models


def sent_to(requests: Iterable[Message]) -> dict[str, int]:
    """Return the node that each message went to by its id, of those that an engine gave one."""
    ids = {asked.metadata.message_id: asked.metadata.dst_node_id for asked in requests}
    return {message: node for message, node in ids.items() if message}


def one_from_each(
    replies: Iterable[Message],
    partition_of: Mapping[int, int],
    messages: Mapping[str, int],
    parse: Callable[[Message, int], Parsed],
) -> tuple[dict[int, Parsed], list[Rejection]]:
    """Return what each client that was asked has answered, and everything that is wrong.

    A client that has no reply among `replies` is among the rejected. Both come by partition,
    strangers last: what is wrong is told in the same order whoever was faster.

    Args:
        replies: what came back.
        partition_of: node id -> partition, of those that were asked.
        messages: id of each message that asked them -> the node it went to. Whoever names another
            as the sender has not spoken for it.
        parse: called with a reply and its partition, returns its content; raises `RejectedError`
            if that is not to be taken.
    """
    taken: dict[int, Parsed] = {}
    rejected: list[Rejection] = []
    heard: set[int] = set()
    for reply in replies:
        partition = partition_of.get(reply.metadata.src_node_id)
        try:
            if partition is None:
                raise RejectedError(FaultKind.STRANGER, "answered without being asked")
            if _answers_another(reply, messages):
                partition, reason = None, f"answered in the name of partition {partition}"
                raise RejectedError(FaultKind.STRANGER, reason)
            _check_envelope(reply, messages, is_second=partition in heard)
            heard.add(partition)
            _check_is_no_failure(reply)
            taken[partition] = parse(reply, partition)
        except RejectedError as error:
            rejected.append(Rejection(partition, error.kind, one_line(str(error))))
        except Exception as error:  # whatever a reply sets off is its sender's alone
            reason = f"cannot be used: {type(error).__name__}: {error}"
            rejected.append(Rejection(partition, FaultKind.MALFORMED, one_line(reason)))
    for partition in set(partition_of.values()) - heard:
        reason = "nothing came before the deadline"
        rejected.append(Rejection(partition, FaultKind.NO_ANSWER, reason))
    return dict(sorted(taken.items())), _bounded(rejected)


def _bounded(rejected: Iterable[Rejection]) -> list[Rejection]:
    """Return the rejections by partition, of many of a kind the first, the last telling of more."""
    found: dict[tuple[int | None, FaultKind], list[Rejection]] = {}
    for one in rejected:
        found.setdefault((one.partition, one.kind), []).append(one)
    kept: list[Rejection] = []
    for alike in found.values():
        kept += alike[:_TOLD]
        if (more := len(alike) - _TOLD) > 0:
            kept[-1] = replace(kept[-1], reason=f"{kept[-1].reason} (and {more} more)")
    return sorted(kept, key=by_partition)


def _answers_another(reply: Message, messages: Mapping[str, int]) -> bool:
    """Return whether a reply is to the message that another node than its sender was sent."""
    asked = messages.get(reply.metadata.reply_to_message_id)
    return asked is not None and asked != reply.metadata.src_node_id


def _check_envelope(reply: Message, messages: Mapping[str, int], *, is_second: bool) -> None:
    """Refuse what is no answer to this round's message."""
    if messages and reply.metadata.reply_to_message_id not in messages:
        raise RejectedError(FaultKind.LATE, "answered the message of another round")
    if is_second:
        raise RejectedError(FaultKind.DUPLICATE, "answered twice")


def _check_is_no_failure(reply: Message) -> None:
    if reply.has_error():
        unreachable = reply.error.code in _UNREACHABLE
        kind = FaultKind.NO_ANSWER if unreachable else FaultKind.CRASHED
        raise RejectedError(kind, reply.error.reason or f"error {reply.error.code}")
    refusal = reply.content.get(exchange.REFUSAL)
    if isinstance(refusal, ConfigRecord):
        raise RejectedError(FaultKind.REFUSED, str(refusal.get("reason", "no reason given")))


def _report(reply: Message, partition: int, expected: Expected) -> ClientReport:
    record = reply.content.get(exchange.METRICS)
    if not isinstance(record, MetricRecord):
        raise RejectedError(FaultKind.MALFORMED, "sent no report")
    try:
        hop = record.get("frame-hop-ms")
        most = 1.0 if expected.config is None else expected.config.most_rate(hop)
        report = ClientReport.from_record(record, most_rate=most)
    except FnlError as error:
        missing = "lacks" in str(error) or "unknown field" in str(error)
        kind = FaultKind.MALFORMED if missing else FaultKind.IMPOSSIBLE
        raise RejectedError(kind, str(error)) from None
    if report.partition != partition:
        reason = f"reports in the name of partition {report.partition}"
        raise RejectedError(FaultKind.WRONG_PARTITION, reason)
    if report.num_examples < 1:
        raise RejectedError(FaultKind.IMPOSSIBLE, "trained on no clips")
    if expected.config is not None:
        booked = expected.booked.get(partition, 0)
        check_plan(report, expected.config, expected.shape.clips, booked)
    values = report.values()
    for name in sorted(expected.entries):
        if name not in values or all_nan(values[name]):
            raise RejectedError(FaultKind.MALFORMED, f"reports no {name}")
    _check_lengths(report, expected)
    if report.epsilon is not None and "epsilon" in expected.entries:
        _check_ledger(report, report.epsilon, expected)
    return report


def _check_ledger(report: ClientReport, epsilon: float, expected: Expected) -> None:
    before = expected.epsilons.get(report.partition, 0.0)
    slack = EPS_ERROR if expected.accountant == "prv" else 0.0  # on another mesh
    if epsilon < before * (1 - _ROUNDING) - slack:
        reason = f"epsilon went back from {before:.6g} to {epsilon:.6g}"
        raise RejectedError(FaultKind.LEDGER, reason)
    least = cost_of_this_round(report, expected.accountant)
    if epsilon < least * (1 - _ROUNDING) - slack:
        reason = f"epsilon {epsilon:.6g} is below {least:.6g}, what this round alone costs"
        raise RejectedError(FaultKind.LEDGER, reason)


def cost_of_this_round(report: ClientReport, accountant: str) -> float:
    """Return ε of the steps that a report itself speaks of; 0 if it does not say how they were.

    Raises:
        RejectedError: if δ is none.
    """
    sigma, delta = report.noise_multiplier, report.delta
    if not sigma or not delta or report.steps < 1 or not 0 < report.sample_rate <= 1:
        return 0.0
    if delta >= 1:
        raise RejectedError(FaultKind.IMPOSSIBLE, f"delta is {delta:.6g}")
    spent = Ledger().spend(sigma, report.sample_rate, report.steps)
    return spent.epsilon(delta, accountant)


def _check_lengths(report: ClientReport, expected: Expected) -> None:
    counts = {
        "layers": (len(report.after.layers), expected.shape.layers),
        "labels": (len(report.after.classes), expected.shape.classes),
    }
    for what, (sent, there) in counts.items():
        if sent != there:
            raise RejectedError(FaultKind.IMPOSSIBLE, f"rates of {sent} {what}, there are {there}")
