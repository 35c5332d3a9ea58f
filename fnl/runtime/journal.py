"""The rows of a run's tables, appended round by round: what a checkpoint points into.

The tables themselves are rewritten whole, now and then. The journal only grows at its end, so a
checkpoint costs the same in the thousandth round as in the first: it holds how long the journal
was, and the digest of that much. Whatever a process killed later wrote behind it is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fnl.errors import RunError, one_line, saying_why
from fnl.runtime.regular_files import regular

Row = Mapping[str, object]
Rows = Mapping[str, Sequence[Row]]
"""Table name -> rows."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Mark:
    """A place in the journal: its first `length` bytes, whose SHA-256 is `digest`."""

    length: int = 0
    digest: str = sha256().hexdigest()


class Journal:
    """Appends rounds to a file. A line is a round: table name -> rows, as JSON.

    Args:
        path: the file; made when the first round is added.
        mark: how much of it to keep, from `check`; what lies behind is cut off.
    """

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        self._path = path
        self._digest = sha256()
        self._length = mark.length if mark is not None else 0
        if not self._length:
            path.unlink(missing_ok=True)
            return
        self._digest = _digest(path, self._length)
        os.truncate(path, self._length)

    def add(self, rows: Rows) -> None:
        """Append one round."""
        line = json.dumps(rows, default=_scalar, ensure_ascii=False).encode() + b"\n"
        with self._path.open("ab") as file:
            file.write(line)
        self._digest.update(line)
        self._length += len(line)

    def mark(self) -> Mark:
        """Return the present end, once all before it is on the disk."""
        if self._length:
            with self._path.open("rb") as file:
                os.fsync(file.fileno())
        return Mark(self._length, self._digest.hexdigest())

    def remove(self) -> None:
        """Delete the file: the run is finished."""
        self._path.unlink(missing_ok=True)


def check(path: Path, mark: Mark) -> None:
    """Raise `RunError` unless the file begins with what `mark` says."""
    with saying_why(f"its rows are not to be read: {path.name}"):
        fits = _digest(path, mark.length).hexdigest() == mark.digest
    if not fits:
        raise RunError(f"its rows are damaged: {path.name} is not what it was")


def read(path: Path, mark: Mark) -> list[Rows]:
    """Return the rounds up to `mark`, which `check` has found to be there.

    Raises:
        RunError: if a line is no round's.
    """
    if not mark.length:
        return []
    rounds = []
    with path.open("rb") as file:
        for number, line in enumerate(file.read(mark.length).splitlines(), 1):
            try:
                rounds.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                reason = one_line(error)
                raise RunError(f"{path.name} is damaged in line {number}: {reason}") from None
    return rounds


def _digest(path: Path, length: int) -> sha256:  # type: ignore[valid-type]  # hashlib has no public type
    digest = sha256()
    left = length
    if left:
        with regular(path).open("rb") as file:
            while left and (block := file.read(min(left, _BLOCK))):
                digest.update(block)
                left -= len(block)
    return digest


def _scalar(value: object) -> object:
    """Return a NumPy number as Python's, which has the same value."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a row has {value!r}, which is no number or text")
    return item()
