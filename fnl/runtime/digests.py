"""SHA-256 digests of what was written, so that damage is found when it is read.

Digests of a finished run's tables are in its `run.json`, under `files`; those of any other file are
beside it in a file `digests.json`. Parquet finds much damage by itself, but not a bit that flips in
a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fnl.errors import RunError, saying_why
from fnl.runtime.atomic import write_text_atomically
from fnl.runtime.regular_files import regular
from fnl.runtime.run_record import read_run

FILES = "files"
"""Entry of `run.json`: file name -> digest."""
_OF_FOLDER = "digests.json"


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of these files of a folder that is there."""
    paths = {name: folder / name for name in names}
    return {name: _digest(path) for name, path in paths.items() if path.is_file()}


def write_digests(folder: Path, names: Iterable[str]) -> None:
    """Record the digests of these files in `digests.json`; what it has of others stays."""
    _write(folder, _recorded(folder / _OF_FOLDER) | digests_of(folder, names))


def announce(folder: Path, written: Mapping[str, bytes]) -> None:
    """Record the digests of files about to be replaced by `written`, next to those they have.

    Whoever is killed before, between or after their replacement leaves files that pass. A record
    that is damaged begins anew: a run does not end for it.
    """
    recorded: dict[str, object] = {}
    with suppress(RunError):
        recorded = _recorded(folder / _OF_FOLDER)
    for name, data in written.items():
        recorded[name] = [*_accepted(recorded, name)[-1:], hashlib.sha256(data).hexdigest()]
    _write(folder, recorded)


def check_digest(path: Path) -> None:
    """Refuse a file that is not what its folder has recorded of it; what is not recorded passes.

    Raises:
        RunError: naming the file, or the record of its run if that is damaged.
    """
    folder = path.parent
    recorded = _recorded(folder / _OF_FOLDER)
    if (folder / "run.json").is_file():
        files = read_run(folder).get(FILES)
        recorded |= files if isinstance(files, dict) else {}
    with saying_why(f"cannot read {path}"):
        if path.exists():
            regular(path)
        if path.name not in recorded:
            return
        status = path.stat()
        found = _digest_of_version(path, status.st_mtime_ns, status.st_size)
    if found not in _accepted(recorded, path.name):
        raise RunError(
            f"{path} is damaged: its SHA-256 is not the one recorded when it was written; "
            "restore it from a copy, or run again"
        )


def _accepted(recorded: Mapping[str, object], name: str) -> list[object]:
    """Return what a file may have: one digest, or two while it is being replaced."""
    digests = recorded.get(name, [])
    return digests if isinstance(digests, list) else [digests]


def _write(folder: Path, digests: Mapping[str, object]) -> None:
    text = json.dumps(digests, indent=1, sort_keys=True) + "\n"
    write_text_atomically(folder / _OF_FOLDER, text)


def _recorded(path: Path) -> dict[str, object]:
    try:
        recorded = json.loads(regular(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise RunError(f"{path} is damaged: remove it to read the files beside it unchecked")
    return recorded


@lru_cache(maxsize=65536)
def _digest_of_version(path: Path, modified: int, size: int) -> str:
    """Return the digest of a file as it was changed last: many figures read the same table."""
    del modified, size
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
