"""What has a file's name in a run directory has to be a file: nothing else is read or written.

A named pipe would be waited for, a device has no end, and a link lets a run that goes on write to
wherever it points. Who made the directory chose them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fnl.errors import RunError, saying_why

_FOLDERS = frozenset({"checkpoints", "own_code", "figures", "tensorboard"})
_GROWING = frozenset({"run.log", "rows.jsonl", "releases.jsonl"})
"""What is written at its end; every other file is replaced."""
_OTHERS = frozenset({"wandb"})
"""A folder of another program's, which links within it: it is not looked into."""


def regular(path: Path) -> Path:
    """Return `path`, to be read.

    Raises:
        OSError: if it is not there or no regular file, as opening it does.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def check_files(directory: Path) -> None:
    """Refuse a run directory, before anything in it is written, that holds more than own files.

    Raises:
        RunError: naming what is a link, a pipe, a device, or a folder in the place of a file.
    """
    with saying_why(f"cannot read the run directory {directory}"):
        for entry in _entries(directory):
            status = entry.stat(follow_symlinks=False)
            mode = status.st_mode
            kind = "link" if stat.S_ISLNK(mode) else "special file"
            is_folder = stat.S_ISDIR(mode)
            if stat.S_ISREG(mode) and entry.name in _FOLDERS:
                kind = "file in the place of a folder"
            elif is_folder and _is_file_name(entry.name):
                kind = "folder in the place of a file"
            elif stat.S_ISREG(mode) and status.st_nlink > 1 and entry.name in _GROWING:
                kind = "file with another name elsewhere"
            elif is_folder or stat.S_ISREG(mode):
                continue
            raise RunError(
                f"{entry.path} is a {kind}, which no run makes: remove it, "
                "then `fnl resume` goes on"
            )


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    folders = [os.fspath(directory)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False) and entry.name not in _OTHERS:
                    folders.append(entry.path)


def _is_file_name(name: str) -> bool:
    suffixes = (".json", ".jsonl", ".log", ".lock", ".parquet", ".safetensors", ".reserve")
    return name.endswith(suffixes)
