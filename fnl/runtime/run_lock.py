"""One process a run: the lock that a run's server holds while it lives.

The operating system gives it back when the process ends, however it ends, so a run that was killed
is free to be resumed and a run that lives is not. A grid's driver holds one in the same way.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from fnl.errors import RunError, saying_why

_NAME = "run.lock"


def lock_run(path: Path) -> FileLock:
    """Return the lock of the run directory `path`, taken.

    Raises:
        RunError: if another process has it, or the directory cannot be written.
    """
    with saying_why(f"cannot write to the run directory {path}"):
        return take(path / _NAME, f"the run {path} is still running: stop it before it is resumed")


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the run directory `path`."""
    return is_taken(path / _NAME)


def take(path: Path, otherwise: str) -> FileLock:
    """Return the lock of this file, taken.

    Raises:
        RunError: saying `otherwise`, if another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(otherwise) from None
    return lock


def is_taken(path: Path) -> bool:
    """Return whether a living process holds the lock of this file."""
    if path.is_symlink() or not path.is_file():  # such is no lock of ours
        return False
    try:
        take(path, "").release()
    except RunError:
        return True
    except OSError:  # a directory one may only read: somebody else's, as it stands
        return False
    return False
