"""What a run tells whoever started it; each event is also a line of an engine's log."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MARK = "fnl: "
"""Begins an event's line in the log of an engine."""


@dataclass(frozen=True)
class _OfDirectory:
    directory: Path


@dataclass(frozen=True)
class _OfText:
    text: str


class RunStarted(_OfDirectory):
    """The run has its directory; nothing of it is computed yet."""


@dataclass(frozen=True)
class RunResumed:
    """The run goes on behind the rounds that were done before."""

    after_round: int


@dataclass(frozen=True)
class RoundStarted:
    """The candidates of a round are asked."""

    server_round: int


class RoundDone(_OfText):
    """A round is evaluated and written: what came of it, in words."""


class RunWarning(_OfText):
    """Something may be taken for more than it is, or went wrong without ending the run."""


class RunNote(_OfText):
    """Something else that a user should know."""


class RunFinished(_OfDirectory):
    """All rounds are done and written."""


Event = RunStarted | RunResumed | RoundStarted | RoundDone | RunWarning | RunNote | RunFinished

_WORDS: dict[type[Event], str] = {
    RunStarted: "run directory ",
    RunResumed: "resumed after round ",
    RoundStarted: "round ",
    RoundDone: "done: ",
    RunWarning: "warning: ",
    RunNote: "note: ",
    RunFinished: "finished: ",
}
"""What a user reads before the value of an event."""
_LINE_ENDS = "\x85\u2028\u2029"
_KINDS = {kind.__name__: kind for kind in _WORDS}


def text_of(event: Event) -> str:
    """Return an event in words, on one line."""
    (value,) = vars(event).values()
    return _WORDS[type(event)] + " ".join(str(value).splitlines())


def to_line(event: Event) -> str:
    """Return the line of an event in an engine's log: its type, and its value as JSON."""
    value = json.dumps(vars(event), default=str, ensure_ascii=False)
    for end in _LINE_ENDS:  # which JSON need not escape
        value = value.replace(end, f"\\u{ord(end):04x}")
    encoded = value.encode(errors="backslashreplace")  # a path need not be text
    return f"{_MARK}{type(event).__name__} {encoded.decode()}"


def from_line(line: str) -> Event | None:
    """Return the event that a line of an engine's log tells, whatever the engine put before it."""
    from pydantic import TypeAdapter  # noqa: PLC0415 who only shows events starts without it

    name, _, value = line.partition(_MARK)[2].partition(" ")
    with suppress(KeyError, ValueError):  # a line of others, or one that an engine has cut
        return TypeAdapter(_KINDS[name]).validate_json(value)
    return None
