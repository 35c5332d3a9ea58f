"""Errors that a user can act on.

Every one of them is a single line that names the offending thing and what would be right;
the command line prints that line and exits non-zero, `--debug` adds the trace.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fnl.own_packages import is_installed


class FnlError(Exception):
    """Base of all errors a user can act on."""


def one_line(error: BaseException) -> str:
    """Return what another error says, on one line, to be part of a message.

    Of pydantic's, which speak of all that is wrong and of where to read about it, the first thing.
    """
    problems: Any = getattr(error, "errors", None)
    if callable(problems):
        first: Any = next(iter(problems()))  # pyright: ignore[reportArgumentType, reportCallIssue]
        place = ".".join(map(str, first["loc"]))
        return " ".join(f"{place}: {first['msg']}".removeprefix(": ").split())
    return " ".join(str(error).split()) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return why the operating system, or else another library, refused, on one line."""
    return getattr(error, "strerror", None) or one_line(error)


def told(error: BaseException) -> str:
    """Return on one line what somebody's own code raised, and where in that code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename[0] != "<" and not is_installed(Path(one.filename))]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {one_line(error)}{place}"


@contextmanager
def running(what: str, *, raises: type[FnlError]) -> Iterator[None]:
    """Let what somebody's own code raises be one line, of the error `raises`, after `what`."""
    try:
        yield
    except FnlError:
        raise
    except Exception as error:
        raise raises(f"{what}: {told(error)}") from error


class ConfigError(FnlError):
    """A configuration key, value or combination that cannot be run."""


class CorpusError(FnlError):
    """A corpus that cannot be read as asked: missing root, bad audio, too few labels."""


class PartitionError(FnlError):
    """A partitioning of a corpus over clients that is impossible."""


class DeviceError(FnlError):
    """A device that refuses a run, or cannot take part: safe to send, it says nothing of clips."""


class BudgetError(FnlError):
    """A round that would cost a client more than its privacy budget: the client refuses it."""


class RunError(FnlError):
    """A run that had to stop: clients failed, a rule misbehaved, a directory is not writable."""


@contextmanager
def saying_why(what: str, *, raises: type[FnlError] = RunError) -> Iterator[None]:
    """Let what the operating system refuses be one line: what cannot be done, and its reason."""
    try:
        yield
    except OSError as error:
        raise raises(f"{what}: {error.strerror}") from None
