"""Audio files in a folder of folders: their index, without opening any of them, and a corpus."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.audio import SUFFIXES, read_clip
from fnl.errors import CorpusError

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would break an error, a list file or a table over lines."""


class FileStamp(NamedTuple):
    """What stands for a file's content: reading 100,000 files to know them would be too slow."""

    size_bytes: int
    modified_ns: int


@dataclass(eq=False)
class CorpusOfFiles:
    """A corpus of recordings, each named by its path in `folder`. See `Corpus` for the rest."""

    folder: Path
    labels: tuple[str, ...]
    clips: pl.DataFrame
    fingerprint: str
    synthetic: bool = False

    def waveform(self, row: int) -> NDArray[np.float32]:
        """See `Corpus.waveform`."""
        return read_clip(self.folder / self.clips["clip"][row])


def scan_audio(root: Path) -> dict[str, FileStamp]:
    """Return every `<folder>/<file>` below `root` with an audio suffix, sorted by that path.

    Hidden files and folders are left out. The paths are relative to `root`, with `/`.

    Raises:
        CorpusError: if `root` is not a readable folder, or a link in it leads out of it, or a name
            is not UTF-8.
    """
    real_root = Path(os.path.realpath(root))
    if not real_root.is_dir():
        raise CorpusError(f"no folder {root}: correct data.root")
    files: dict[str, FileStamp] = {}
    try:
        for folder in _entries(real_root, real_root):
            if folder.is_dir():
                for entry in _entries(Path(folder.path), real_root):
                    if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                        status = entry.stat()
                        stamp = FileStamp(status.st_size, status.st_mtime_ns)
                        files[f"{folder.name}/{entry.name}"] = stamp
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename or root}: {error.strerror}") from error
    return dict(sorted(files.items()))


def fingerprint(files: Iterable[tuple[str, FileStamp]], **parameters: object) -> str:
    """Return a hex digest of files (path, size, time of change) and a corpus' parameters."""
    digest = blake2b(json.dumps(parameters, sort_keys=True).encode(), digest_size=16)
    for path, stamp in files:
        digest.update(f"\0{path}\0{stamp.size_bytes}\0{stamp.modified_ns}".encode())
    return digest.hexdigest()


def _entries(folder: Path, real_root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the visible entries of a folder; refuse those that cannot be indexed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(
                real_root
            ):
                raise CorpusError(
                    f"{entry.path} is a link out of {real_root}: put the files themselves there"
                )
            try:
                entry.name.encode()
            except UnicodeEncodeError as error:
                raise CorpusError(f"the name of {entry.path!r} is not UTF-8: rename it") from error
            if _CONTROL.search(entry.name):
                raise CorpusError(f"the name of {entry.path!r} has a control character: rename it")
            yield entry
