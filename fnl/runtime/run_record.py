"""`run.json`: what was run, with which versions, and how it stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import fnl
from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.atomic import write_text_atomically
from fnl.runtime.provenance import Provenance
from fnl.runtime.regular_files import regular

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
INTERRUPTED = "interrupted"
"""Status of a run that its user stopped, or whose process is gone: `fnl resume` goes on with it."""
DAMAGED = "damaged"
"""Status of a run whose record or table of rounds is not what was written."""

_CHECKSUM = "checksum"
"""Entry of `run.json`: SHA-256 of all the others. It finds accidents, not forgers."""
_LARGEST_INTEGER = 2**63 - 1


def first_record(
    name: str,
    config: Config,
    engine: str,
    metadata: Mapping[str, object],
    made_by: Provenance,
) -> dict[str, object]:
    """Return the content of `run.json` of a run that starts now."""
    return {
        "name": name,
        "status": RUNNING,
        "error": None,
        "engine": engine,
        "started": timestamp(),
        "finished": None,
        "seconds": None,
        "seed": config.run.seed,
        "identity": config.identity(),
        "source": str(Path(fnl.__file__).parent),
        **made_by.entries(),
        **metadata,
        "config": config.flat(),
    }


def read_run(path: Path) -> dict[str, object]:
    """Return the content of a run directory's `run.json`.

    Raises:
        RunError: if it is missing or not a run record.
    """
    if not path.exists():
        raise RunError(f"{path} does not exist: give a run directory")
    try:
        text = regular(path / "run.json").read_text(encoding="utf-8")
        record = json.loads(text, parse_int=_integer)
        found = _checksum(record) if isinstance(record, dict) else None
    except FileNotFoundError:
        raise RunError(f"{path} is not a run directory: it has no run.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not a run directory: run.json: {error}") from None
    if not isinstance(record, dict) or "status" not in record:
        raise RunError(f"{path} is not a run directory: run.json has no status")
    if record.pop(_CHECKSUM, found) != found:
        raise RunError(
            f"{path / 'run.json'} is damaged or was edited: its checksum is another; restore it "
            f"from a copy, or remove the entry {_CHECKSUM!r} if it is as it should be"
        )
    return record


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Put `record` in place of the run directory's `run.json`, with its checksum."""
    sealed = {**record, _CHECKSUM: _checksum(record)}
    text = json.dumps(sealed, indent=2, ensure_ascii=False) + "\n"
    write_text_atomically(path / "run.json", text)


def _checksum(record: Mapping[str, object]) -> str:
    """Return the digest of what JSON keeps of a record, the checksum in it left out.

    Raises:
        ValueError: if a text in it cannot be written.
    """
    content = {key: value for key, value in record.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def _integer(digits: str) -> int:
    """Return a whole number of a record: none is longer than a table's."""
    number = int(digits)
    if abs(number) > _LARGEST_INTEGER:
        raise ValueError(f"the whole number {digits:.20}… is too large")
    return number


def timestamp() -> str:
    """Return the time now, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
