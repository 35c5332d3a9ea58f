"""What a user can do where a run cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fnl.errors import RunError, reason_of
from fnl.runtime.atomic import UNWRITABLE


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say in one line what keeps the run at `path` from being written."""
    try:
        yield
    except UNWRITABLE as error:
        remedy = "make room there"
        if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "make it writable"
        if getattr(error, "errno", None) in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
            named = getattr(error, "filename2", None) or getattr(error, "filename", None)
            remedy = f"remove what is in the place of {Path(named).name if named else 'a file'}"
        if not path.is_dir():
            remedy = "it was moved or deleted: put it back"
        raise RunError(
            f"cannot write to the run directory {path}: {reason_of(error)}; {remedy}, then "
            "`fnl resume` goes on"
        ) from error
