"""Faults by a seeded schedule: which reply goes wrong in which round, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from fnl.wire import exchange
from server.replies.rejections import FaultKind

CONTENT = {
    "no report": FaultKind.MALFORMED,
    "report lacks a field": FaultKind.MALFORMED,
    "report has an unknown field": FaultKind.MALFORMED,
    "no weights": FaultKind.MALFORMED,
    "an array missing": FaultKind.MALFORMED,
    "an array too many": FaultKind.MALFORMED,
    "bytes cut": FaultKind.MALFORMED,
    "wrong shape": FaultKind.WRONG_SHAPE,
    "far too long": FaultKind.WRONG_SHAPE,
    "nan": FaultKind.NOT_FINITE,
    "infinite": FaultKind.NOT_FINITE,
    "huge": FaultKind.TOO_LARGE,
    "rate above one": FaultKind.IMPOSSIBLE,
    "negative count": FaultKind.IMPOSSIBLE,
    "nan loss": FaultKind.IMPOSSIBLE,
    "a layer too many": FaultKind.IMPOSSIBLE,
    "another's name": FaultKind.WRONG_PARTITION,
    "ledger backwards": FaultKind.LEDGER,
    "no ledger": FaultKind.MALFORMED,
    "crash after training": FaultKind.CRASHED,
}
"""What may be wrong inside a reply -> what the server must call it."""

TRANSPORT = {
    "refusal": FaultKind.REFUSED,
    "crash before training": FaultKind.CRASHED,
    "disconnected": FaultKind.NO_ANSWER,
    "lost on the way back": FaultKind.NO_ANSWER,
    "twice": FaultKind.DUPLICATE,
    "late": FaultKind.LATE,
    "stranger": FaultKind.STRANGER,
}
"""What may go wrong around a reply, or instead of it."""

KINDS = CONTENT | TRANSPORT

OF_WEIGHTS = (
    "no weights",
    "an array missing",
    "an array too many",
    "bytes cut",
    "wrong shape",
    "far too long",
    "nan",
    "infinite",
    "huge",
)
"""Kinds of `CONTENT` that need weights in the reply."""

REPORT_KINDS = tuple(kind for kind in KINDS if kind not in OF_WEIGHTS)
"""What may go wrong with the first reply of a probed round, a report alone."""

UPLOAD_KINDS = (*OF_WEIGHTS, "crash after training", *TRANSPORT)
"""What may go wrong with its second, weights alone."""


@dataclass(frozen=True)
class Schedule:
    """A share of all replies is faulty, of the kinds in turn by lot; the same for the same seed.

    Attributes:
        kinds: what may be wrong with the reply to a round's first message.
        upload_kinds: the same of the second, by which a probed round asks for weights.
    """

    seed: int
    share: float
    kinds: tuple[str, ...] = tuple(KINDS)
    upload_kinds: tuple[str, ...] = UPLOAD_KINDS

    @classmethod
    def of_probed_rounds(cls, seed: int, share: float) -> Schedule:
        """Return a schedule of what may happen to the replies of each phase."""
        return cls(seed, share, REPORT_KINDS, UPLOAD_KINDS)

    def fault(self, server_round: int, partition: int) -> str | None:
        """Return what goes wrong with the reply of `partition` in `server_round`, if anything."""
        return self._draw([self.seed, server_round, partition], self.kinds)

    def upload_fault(self, server_round: int, partition: int) -> str | None:
        """Return what goes wrong with its upload, if anything."""
        return self._draw([self.seed, server_round, partition, 2], self.upload_kinds)

    def _draw(self, path: list[int], kinds: tuple[str, ...]) -> str | None:
        draw = np.random.default_rng(path)
        return str(draw.choice(kinds)) if draw.random() < self.share else None


_SET_IN_REPORT = {
    "report has an unknown field": ("motto", 1.0),
    "rate above one": ("firing-rate-after", 1.5),
    "negative count": ("num-examples", -3),
    "nan loss": ("train-loss", float("nan")),
    "a layer too many": ("layer-rates-before", [0.5, 0.5, 0.5]),
    "another's name": ("partition", 99),
    "ledger backwards": ("epsilon", 1e-9),
}
_CUT_FROM_REPORT = {"report lacks a field": "num-examples", "no ledger": "epsilon"}
_CUT_FROM_REPLY = {"no report": exchange.METRICS, "no weights": exchange.ARRAYS}


def refusal() -> RecordDict:
    """Return what a client sends that does not train."""
    reason = ConfigRecord({"reason": "privacy.epsilon = 8 is spent"})
    return RecordDict({exchange.REFUSAL: reason})


def corrupt(kind: str, reply: Message) -> Message:
    """Return `reply` with a fault of `CONTENT`."""
    if reply.has_error():
        return reply
    content = reply.content
    if kind == "crash after training":
        return _error(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "RuntimeError: out of battery")
    if kind in _CUT_FROM_REPLY:
        del content[_CUT_FROM_REPLY[kind]]
    elif kind in OF_WEIGHTS:
        _corrupt_arrays(kind, content)
    else:
        _corrupt_report(kind, content)
    return reply


def _corrupt_report(kind: str, content: RecordDict) -> None:
    report = content[exchange.METRICS]
    assert isinstance(report, MetricRecord)
    if kind in _CUT_FROM_REPORT:
        del report[_CUT_FROM_REPORT[kind]]
        return
    name, value = _SET_IN_REPORT[kind]
    report[name] = value
    if kind == "a layer too many":
        report["layer-rates-after"] = value


def _corrupt_arrays(kind: str, content: RecordDict) -> None:
    arrays = content[exchange.ARRAYS]
    assert isinstance(arrays, ArrayRecord)
    weights = exchange.from_arrays(arrays)
    first = next(iter(weights))
    if kind == "an array missing":
        del arrays[first]
    elif kind == "an array too many":
        arrays["spare"] = arrays[first]
    elif kind == "bytes cut":
        arrays[first].data = arrays[first].data[:-3]
    else:
        bad = weights[first].copy()
        bad.flat[-1] = np.nan if kind == "nan" else np.inf
        changed = {
            "nan": {first: bad},
            "infinite": {first: bad},
            "wrong shape": {first: weights[first][..., :-1]},
            "far too long": {first: np.zeros(100_000, np.float32)},
            "huge": {name: value + np.float32(1e6) for name, value in weights.items()},
        }
        content[exchange.ARRAYS] = exchange.to_arrays(weights | changed[kind])


def _error(message: Message, code: int, reason: str) -> Message:
    """Return `message` turned into an error reply."""
    failed = Message.__new__(Message)
    failed.__dict__.update(message.__dict__)
    failed.__dict__["_content"] = None
    failed.__dict__["_error"] = Error(code, reason)
    return failed
