"""One process a run: the lock that a run's server holds while it lives.

The operating system gives it back when the process ends, however it ends, so a run that was killed
is free to be resumed and a run that lives is not.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from fnl.errors import RunError

_NAME = "run.lock"


def lock_run(path: Path) -> FileLock:
    """Return the lock of the run directory `path`, taken.

    Raises:
        RunError: if another process has it.
    """
    lock = FileLock(path / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"the run {path} is still running: stop it before it is resumed") from None
    return lock


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the run directory `path`."""
    if not (path / _NAME).exists():
        return False
    try:
        lock_run(path).release()
    except RunError:
        return True
    return False
