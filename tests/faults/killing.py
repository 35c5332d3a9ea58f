"""A run in a process of its own that is killed (SIGKILL) at a chosen instant of its writing.

An instant is just before or just after a step of the one way files are written (temporary file,
its content, fsync, rename) or of the journal's, which also may be left with half a line.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import server.app
from fnl.config import parse_config
from fnl.runtime import atomic, journal, table_files
from fnl.runtime.in_process import run_in_process

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["server.app", "clients.app", "tests.faults.killing"])

Flat = dict[str, bool | int | float | str]


class _Instants:
    """Counts instants and kills this process at one of them; 0 never."""

    def __init__(self, kill_at: int) -> None:
        self.count = 0
        self._kill_at = kill_at

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.pass_one()
            result = function(*args, **kwargs)
            self.pass_one()
            return result

        return wrapped


class _HalfWritten:
    """The journal's file, whose lines go to the disk in two halves."""

    def __init__(self, file: Any, instants: _Instants) -> None:
        self._file, self._instants = file, instants

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def write(self, line: bytes) -> None:
        self._file.write(line[: len(line) // 2])
        self._file.flush()
        self._instants.pass_one()
        self._file.write(line[len(line) // 2 :])
        self._file.flush()
        self._instants.pass_one()


def _watch(instants: _Instants) -> None:
    atomic.tempfile.mkstemp = instants.around(atomic.tempfile.mkstemp)
    atomic.os.fsync = instants.around(atomic.os.fsync)  # the journal's too: it is the same module
    Path.replace = instants.around(Path.replace)
    Path.unlink = instants.around(Path.unlink)

    class JournalPath(type(Path())):
        def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            return _HalfWritten(super().open(mode, *args, **kwargs), instants)

    plain = journal.Journal.__init__

    def on_watched_path(self: Any, path: Path, mark: Any = None) -> None:
        plain(self, JournalPath(path), mark)

    journal.Journal.__init__ = on_watched_path
    calls = count()

    def every_other_time(self: table_files.TableFiles) -> None:
        if next(calls) % 2 == 0:
            self.flush()

    # by the clock, there would be more instants in a run that is slow
    table_files.TableFiles.flush_in_time = every_other_time


def _child(flat: Flat, client_app: str, kill_at: int, counted: Path, beside: bool) -> None:
    instants = _Instants(kill_at)
    _watch(instants)
    server.app.clients_apart = lambda _: beside
    run_in_process(parse_config(flat), client_app=client_app, notify=lambda _: None)
    counted.write_text(str(instants.count))


def run_and_kill(
    flat: Flat,
    kill_at: int,
    counted: Path,
    client_app: str = "clients.app:app",
    *,
    beside: bool = False,
) -> bool:
    """Run `flat` and kill it at its instant `kill_at`; 0 never.

    With `beside` rounds are written while the next ones are under way.

    Returns:
        Whether it was killed; else the number of instants there were is in the file `counted`.
    """
    process = _CONTEXT.Process(target=_child, args=(flat, client_app, kill_at, counted, beside))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with exit status {process.exitcode}")
    return process.exitcode == -signal.SIGKILL
