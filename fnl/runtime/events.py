"""What a run tells whoever started it; each event is also a line of an engine's log."""

from __future__ import annotations

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

_BEGINNINGS: dict[str, type[Event]] = {
    "run directory ": RunStarted,
    "resumed after round ": RunResumed,
    "round ": RoundStarted,
    "done: ": RoundDone,
    "warning: ": RunWarning,
    "note: ": RunNote,
    "finished: ": RunFinished,
}
_VALUES = {RunStarted: Path, RunFinished: Path, RunResumed: int, RoundStarted: int}


def text_of(event: Event) -> str:
    """Return an event in words, on one line."""
    beginning = next(words for words, kind in _BEGINNINGS.items() if type(event) is kind)
    (value,) = vars(event).values()
    return beginning + " ".join(str(value).splitlines())


def to_line(event: Event) -> str:
    """Return the line of an event in an engine's log."""
    return _MARK + text_of(event)


def from_line(line: str) -> Event | None:
    """Return the event that a line of an engine's log tells, whatever the engine put before it."""
    text = line.partition(_MARK)[2].strip()
    for beginning, kind in _BEGINNINGS.items():
        if text.startswith(beginning):
            with suppress(ValueError):  # a line that an engine has cut
                value = _VALUES.get(kind, str)(text.removeprefix(beginning))
                return kind(value)  # type: ignore[arg-type]  # the one value each has, of its type
    return None
