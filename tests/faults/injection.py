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
    "endless loss": FaultKind.IMPOSSIBLE,
    "a layer too many": FaultKind.IMPOSSIBLE,
    "another's name": FaultKind.WRONG_PARTITION,
    "ledger backwards": FaultKind.LEDGER,
    "no ledger": FaultKind.MALFORMED,
    "crash after training": FaultKind.CRASHED,
}
"""What may be wrong inside a reply -> what the server must call it."""

_MARKUP = "[/bold]\x1b[2J\u202e"
"""What would stop or steer a terminal if it were printed as it is."""

_FORGED_NUMBERS: dict[str, list[object]] = {
    "noise-multiplier": [5e-324, 1e-200, 0.0, -1.0, 1.7e308, float("inf"), float("nan"), 1e-10],
    "epsilon": [float("inf"), float("nan"), -1.0, 1e30, 1.7e308],
    "delta": [5e-324, 0.0, 0.5, 1.0, 2.0, float("nan")],
    "steps": [0, -1, 1000, 2**62],
    "sample-rate": [0.0, 5e-324, 0.999, 2.0],
    "num-examples": [0, 1, 2**62],
    "seconds": [float("nan"), float("inf"), -1.0, 1.7e308],
    "peak-memory-bytes": [-1, 2**62],
    "update-norm": [1.7e308, -1.0],
    "clip-norm": [0.0, 1e-30, 1e30, 1.7e308],
    "rate-noise": [0.0, 5e-324, 1.0, 1e30, 1.7e308],
    "train-loss": [1.7e308, -1.0],
    "clip-fraction": [1.5, [0.5]],
    "gradient-norm-median": [1.7e308],
    "firing-rate-before": [float("nan"), [0.1], -5e-324],
    "layer-rates-after": [[float("nan")], 0.5, [0.5] * 10_000],
    "class-rates-before": [[], [2.0], [0.1] * 10_000],
    "firing-rate-shadow": [0.5],
    "partition": [-1, 2**62, 0],
    _MARKUP: [1.0],
}
_FORGED_KINDS = {
    "class-rates-before = []": FaultKind.IMPOSSIBLE,
    "partition = 0": FaultKind.WRONG_PARTITION,
    f"partition = {2**62}": FaultKind.IMPOSSIBLE,
    f"{_MARKUP} = 1.0": FaultKind.MALFORMED,
    "firing-rate-shadow = 0.5": FaultKind.MALFORMED,
}
_NUMBERS = {
    f"{name} = {value!r:.30}": (name, value)
    for name, values in _FORGED_NUMBERS.items()
    for value in values
}
FORGED = {kind: _FORGED_KINDS.get(kind, FaultKind.IMPOSSIBLE) for kind in _NUMBERS} | {
    "an error in markup": FaultKind.CRASHED,
    "a refusal in markup": FaultKind.REFUSED,
    "a refusal of a megabyte": FaultKind.REFUSED,
    "a refusal that is no text": FaultKind.REFUSED,
    "a report of text": FaultKind.MALFORMED,
    "an array with a pickle": FaultKind.MALFORMED,
    "an array that claims too much": FaultKind.MALFORMED,
    "an array named in markup": FaultKind.MALFORMED,
    "sigma of a tenth of the cost": FaultKind.IMPOSSIBLE,
}
"""What a hostile client may send -> what the server must call it."""

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
    "endless loss": ("train-loss", -1.0),
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
    """Return `reply` with a fault of `CONTENT` or `FORGED`."""
    if reply.has_error():
        return reply
    content = reply.content
    if kind in FORGED:
        return _forge(kind, reply)
    if kind == "crash after training":
        return _error(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "RuntimeError: out of battery")
    if kind in _CUT_FROM_REPLY:
        del content[_CUT_FROM_REPLY[kind]]
    elif kind in OF_WEIGHTS:
        _corrupt_arrays(kind, content)
    else:
        _corrupt_report(kind, content)
    return reply


def _forge(kind: str, reply: Message) -> Message:
    content = reply.content
    report, arrays = content[exchange.METRICS], content[exchange.ARRAYS]
    assert isinstance(report, MetricRecord)
    assert isinstance(arrays, ArrayRecord)
    first = next(iter(arrays))
    refusals = {
        "a refusal in markup": _MARKUP,
        "a refusal of a megabyte": "\n" * 2**20,
        "a refusal that is no text": [1.5] * 1000,
    }
    if kind in _NUMBERS:
        name, value = _NUMBERS[kind]
        report[name] = value  # type: ignore[assignment]  # that is the point
    elif kind == "sigma of a tenth of the cost":
        report["noise-multiplier"] = float(report["noise-multiplier"]) / 10  # type: ignore[arg-type]
    elif kind == "an error in markup":
        return _error(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _MARKUP)
    elif kind in refusals:
        content[exchange.REFUSAL] = ConfigRecord({"reason": refusals[kind]})
    elif kind == "a report of text":
        content[exchange.METRICS] = ConfigRecord({"partition": _MARKUP})
    elif kind == "an array with a pickle":
        arrays[first].data = b"\x80\x04cposix\nsystem\n."
    elif kind == "an array that claims too much":
        arrays[first].data = arrays[first].data.replace(b"'shape': (", b"'shape': (99999, ", 1)
    else:
        arrays[_MARKUP] = arrays[first]
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
