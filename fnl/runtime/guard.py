"""A process that runs a program and ends all that the program started once its owner is gone.

Run as a script, it needs nothing but Python: `guard.py DESCRIPTOR FOLDER PROGRAM ARGUMENTS…`. The
owner holds the other end of the pipe DESCRIPTOR; when that is closed, by a normal end or a kill,
every descendant is ended and FOLDER removed. Ray puts its processes into sessions of their own and
orphans them: as their subreaper (Linux) this process still has them all.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 8.0
_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the program, and return its exit status."""
    owner, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    program = subprocess.Popen(  # noqa: S603 the owner's own command
        command,
        start_new_session=True,
        preexec_fn=_hear_signals,  # noqa: PLW1509 no threads here
    )
    status = None
    while status is None and not select.select([owner], [], [], 0.2)[0]:
        status = _reap(program.pid)
    _end_all(program.pid)
    for _ in range(20):  # what is dying may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            break
        time.sleep(0.1)
    return status or 0


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _reap(program: int) -> int | None:
    """Take the exit statuses of what has ended; return the program's, if it has."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, left = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == program:
                status = os.waitstatus_to_exitcode(left)
    return status


def _end_all(program: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            _reap(program)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(program, number)
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.2)


def descendants(ancestor: int) -> list[int]:
    """Return the processes below `ancestor` that live, by `/proc`; none where there is no such."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children[int(parent)].append(int(stat.parent.name))
    found, look = [], [ancestor]
    while look:
        found += (below := children[look.pop()])
        look += below
    return found


if __name__ == "__main__":
    sys.exit(main())
