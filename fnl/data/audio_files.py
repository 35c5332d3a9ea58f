"""Audio files in a folder of folders: their index, without opening any of them, and a corpus."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
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
    left_out: tuple[str, ...] = ()
    """What of the folder is not in the corpus, and why: a line a folder."""

    def waveform(self, row: int) -> NDArray[np.float32]:
        """See `Corpus.waveform`."""
        return read_clip(self.folder / self.clips["clip"][row])


@dataclass(frozen=True)
class Scan:
    """What there is in a folder of folders.

    Attributes:
        files: every `<folder>/<file>` with an audio suffix, sorted by that path.
        left_out: of each folder with other things in it, how many of each kind.
    """

    files: dict[str, FileStamp]
    left_out: dict[str, dict[str, int]]

    def reasons(self, folders: Collection[str]) -> tuple[str, ...]:
        """Return what was left out of `folders`, and which others were, a line each."""
        lines = [
            f"{folder}: {counted(held)}"
            for folder, held in sorted(self.left_out.items())
            if folder in folders
        ]
        others = Counter(path.partition("/")[0] for path in self.files)
        lines += [
            f"{folder}: {count} clips, as it is none of the labels"
            for folder, count in sorted(others.items())
            if folder not in folders
        ]
        return tuple(lines)


def scan_audio(root: Path) -> Scan:
    """Return every `<folder>/<file>` below `root` with an audio suffix, and what is left out.

    Hidden files and folders are left out unsaid. The paths are relative to `root`, with `/`.

    Raises:
        CorpusError: if `root` is not a readable folder, or a link in it leads out of it, or a name
            is not UTF-8.
    """
    real_root = Path(os.path.realpath(root))
    if not real_root.is_dir():
        raise CorpusError(f"no folder {root}: correct data.root")
    files: dict[str, FileStamp] = {}
    left_out: dict[str, dict[str, int]] = {}
    try:
        for folder in _entries(real_root, real_root):
            if folder.is_dir():
                others: Counter[str] = Counter()
                for entry in _entries(Path(folder.path), real_root):
                    suffix = os.path.splitext(entry.name)[1].lower()
                    if suffix in SUFFIXES and entry.is_file():
                        status = entry.stat()
                        stamp = FileStamp(status.st_size, status.st_mtime_ns)
                        files[f"{folder.name}/{entry.name}"] = stamp
                    else:
                        others[_kind(entry, suffix)] += 1
                if others:
                    left_out[folder.name] = dict(others)
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename or root}: {error.strerror}") from error
    return Scan(dict(sorted(files.items())), left_out)


def counted(held: Mapping[str, int]) -> str:
    """Return how many of each kind a folder holds, in words."""
    return ", ".join(f"{count} {what}" for what, count in sorted(held.items()))


def _kind(entry: os.DirEntry[str], suffix: str) -> str:
    if entry.is_dir():
        return "folders (clips lie in <label>/, not deeper)"
    if suffix in SUFFIXES:
        return f"{suffix} that are no files"
    return f"{suffix} files (not read as audio)" if suffix else "files without a suffix"


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
