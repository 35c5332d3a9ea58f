"""What a Ray worker does: run one cell from wherever it stands to its end."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock

from experiments.grid.directory import record_of
from experiments.grid.stale import CodeNow, set_aside
from fnl.config import Config, Scalar, parse_config
from fnl.metrics.memory import peak_memory_bytes
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_directory import FAILED, FINISHED, RUNNING, RunDirectory
from fnl.runtime.run_place import accept_changes
from fnl.runtime.run_record import DAMAGED, timestamp, write_record

LOCK_SECONDS = 120.0
"""How long a cell waits for a worker of a killed driver to let go of it."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        seconds: wall time, with everything around the run.
        error: why it failed; None: it is finished.
        stops_the_grid: whether every other cell would fail for the same reason: no room on disk.
    """

    seconds: float
    error: str | None = None
    stops_the_grid: bool = False


def run_cell(flat: Mapping[str, Scalar], keep_stale: bool = False) -> Outcome:
    """Run the cell with this configuration; its run directory tells how it ended.

    A finished cell is left as it is; one that was begun goes on from its last checkpoint. What
    other code has made is set aside, unless `keep_stale`: it then counts as any other. What a cell
    took is kept beside what the run says of itself: seconds, those that its worker computed, and
    the most memory that its worker has ever held.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    started, config, failed = time.perf_counter(), parse_config(flat), None
    try:
        with _held(config):
            _run(config, keep_stale)
    except Exception as error:
        failed = error
    seconds = time.perf_counter() - started
    if failed is None:
        return Outcome(seconds)
    return Outcome(seconds, _line(failed), stops_the_grid=no_room(failed))


def record_failure(config: Config, reason: str) -> None:
    """Mark a cell as failed whose run could not do so itself."""
    path = _place(config)
    record = record_of(path)
    if record is None:
        RunDirectory.create(config, engine="in-process", metadata={}).fail(reason)
    elif record["status"] == RUNNING:
        write_record(path, record | {"status": FAILED, "error": reason, "finished": timestamp()})


def no_room(error: BaseException) -> bool:
    """Return whether an error, or what it came of, is a disk that takes no more."""
    return any(
        getattr(link, "errno", None) in _NO_ROOM or "No space left on device" in str(link)
        for link in _chain(error)
    )


def _run(config: Config, keep_stale: bool) -> None:
    path = _place(config)
    record = record_of(path)
    changes = CodeNow().changes(record)
    if changes and not keep_stale:
        set_aside(path)
        record = None
    if record is not None and record["status"] == FINISHED:
        return
    if changes and keep_stale:
        accept_changes(path, config)
    at, started, computed = time.time(), time.perf_counter(), time.process_time()
    try:
        run_in_process(config, notify=lambda _: None)
    except Exception as error:
        if not no_room(error):
            record_failure(config, f"{type(error).__name__}: {error}")
        raise
    finally:
        if (record := record_of(path)) and record["status"] != DAMAGED:
            took = {
                "started": at,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - computed,
                "peak_bytes": peak_memory_bytes(),
            }
            write_record(path, record | {"worker": took})


def _place(config: Config) -> Path:
    return Path(config.run.results_dir) / config.run.name


def _held(config: Config) -> filelock.BaseFileLock:
    """Return the cell's lock: a killed driver's workers live on for a moment."""
    folder = Path(config.run.results_dir).parent / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / f"{config.run.name}.lock", timeout=LOCK_SECONDS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
