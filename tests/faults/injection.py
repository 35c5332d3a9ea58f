"""Faults by a seeded schedule: which reply goes wrong in which round, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

from fnl import exchange
from server.rejections import FaultKind

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


@dataclass(frozen=True)
class Schedule:
    """A share of all replies is faulty, of the kinds in turn by lot; the same for the same seed."""

    seed: int
    share: float
    kinds: tuple[str, ...] = tuple(KINDS)

    def fault(self, server_round: int, partition: int) -> str | None:
        """Return what goes wrong with the reply of `partition` in `server_round`, if anything."""
        draw = np.random.default_rng([self.seed, server_round, partition])
        if draw.random() >= self.share:
            return None
        return str(draw.choice(self.kinds))


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
    report = content[exchange.METRICS]
    assert isinstance(report, MetricRecord)
    if kind == "crash after training":
        return _error(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "RuntimeError: out of battery")
    if kind in _SET_IN_REPORT:
        name, value = _SET_IN_REPORT[kind]
        report[name] = value
        if kind == "a layer too many":
            report["layer-rates-after"] = value
    elif kind in _CUT_FROM_REPORT:
        del report[_CUT_FROM_REPORT[kind]]
    elif kind in _CUT_FROM_REPLY:
        del content[_CUT_FROM_REPLY[kind]]
    else:
        _corrupt_arrays(kind, content)
    return reply


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
