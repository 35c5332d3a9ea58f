"""`run.json`: what was run, with which versions, and how it stands."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fnl
from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.atomic import write_text_atomically

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
INTERRUPTED = "interrupted"
"""Status of a run that its user stopped, or whose process is gone: `fnl resume` goes on with it."""

_PACKAGES = ("torch", "snntorch", "flwr", "opacus", "torchaudio", "numpy", "polars", "numba")


def first_record(
    name: str, config: Config, engine: str, metadata: Mapping[str, object]
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
        "versions": versions(),
        "source": str(Path(fnl.__file__).parent),
        **metadata,
        "config": config.flat(),
    }


def read_run(path: Path) -> dict[str, object]:
    """Return the content of a run directory's `run.json`.

    Raises:
        RunError: if it is missing or not a run record.
    """
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not a run directory: run.json: {error}") from None
    if not isinstance(record, dict) or "status" not in record:
        raise RunError(f"{path} is not a run directory: run.json has no status")
    return record


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Put `record` in place of the run directory's `run.json`."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_text_atomically(path / "run.json", text)


def timestamp() -> str:
    """Return the time now, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions that decide a run's numbers."""
    found = {"python": platform.python_version(), "fnl": fnl.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
