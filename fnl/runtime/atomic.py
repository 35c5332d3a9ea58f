"""The one way files are written: whole or not at all, and what a user can do where they cannot."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl
from safetensors import SafetensorError

from fnl.errors import RunError, reason_of

UNWRITABLE = (OSError, pl.exceptions.ComputeError, SafetensorError)
"""What writers raise where a disk is full or a folder is gone, each library its own kind."""


def write_atomically(path: Path, write: Callable[[Path], object], *, mode: int = 0o644) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place of `path`.

    A reader sees the old file or the new one; a process killed half-way leaves the old one.

    Args:
        path: final path; its folder must exist.
        write: called with the temporary path; writes and closes it.
        mode: who may read the file.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Put `text`, in UTF-8, in place of the file `path`."""
    write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))


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


def sync_folder(folder: Path) -> None:
    """Make new and renamed files of `folder` survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary_files(folder: Path, names: str) -> None:
    """Remove what a process that was killed while it wrote files called `names*` left behind.

    Args:
        folder: where it wrote.
        names: how the final names begin, as a glob pattern; no other process may be writing them.
    """
    for left in folder.glob(f".{names}*"):
        left.unlink(missing_ok=True)
