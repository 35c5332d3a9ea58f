"""A run's directory: what was run, how it stands, its tables, its checkpoints and its model.

Everything is written atomically or appended, so a reader never sees half a file and a run that was
killed at any instant goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import polars as pl
import safetensors.numpy
from filelock import FileLock

from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.atomic import UNWRITABLE, remove_temporary_files, write_atomically, written
from fnl.runtime.callbacks import Callbacks
from fnl.runtime.digests import FILES, digests_of
from fnl.runtime.events import Event, RunNote, RunResumed, text_of
from fnl.runtime.journal import Row
from fnl.runtime.kept_code import keep_code
from fnl.runtime.own_code import own_code_of
from fnl.runtime.provenance import Provenance, in_words, provenance_of
from fnl.runtime.regular_files import check_files
from fnl.runtime.run_lock import lock_run
from fnl.runtime.run_log import RunLog
from fnl.runtime.run_place import ACCEPTED, check_resumable, new_directory, run_path
from fnl.runtime.run_record import (
    FAILED,
    FINISHED,
    RUNNING,
    first_record,
    read_run,
    timestamp,
    write_record,
)
from fnl.runtime.saved_rounds import RunState, SavedRounds
from fnl.runtime.table_files import TableFiles
from fnl.runtime.tables import TABLES
from fnl.runtime.trust import remember
from fnl.weights import Weights, weights_hash

__all__ = ["FAILED", "FINISHED", "RUNNING", "RunDirectory", "read_run"]

_RESERVE = ".run.json.reserve"
"""Room on the disk that is given back when the disk is full, so that the record can say so."""
_RESERVED_BYTES = 65_536


class RunDirectory:
    """Writer of one run's directory. Readers use `read_run` and the parquet files.

    Attributes:
        path: the directory.
        resumed_from: where the run goes on from; None: from its start.
        notes: what a user should know of a resumed run.
    """

    def __init__(self, path: Path, record: dict[str, object], lock: FileLock) -> None:
        self.path = path
        self.resumed_from: RunState | None = None
        self.notes: list[Event] = []
        self._record = record
        self._lock = lock
        self._started = time.perf_counter()
        self._tables = TableFiles(path)
        self._log = RunLog(path / "run.log")
        self._callbacks: Callbacks | None = None
        self._saved = SavedRounds(path, str(record["identity"]))

    @classmethod
    def open(cls, config: Config, *, engine: str, metadata: Mapping[str, object]) -> RunDirectory:
        """Resume the run that `run.name` names if it was stopped, else make a new directory.

        Args:
            config: the resolved configuration.
            engine: which engine runs it.
            metadata: further entries of `run.json`, e.g. the corpus and the guarantee.

        Raises:
            RunError: if the run is finished, still running or of another configuration, or the
                place cannot be written.
        """
        path = run_path(config)
        if path is not None and (path / "run.json").exists():
            return cls._resume(path, config, engine, metadata)
        return cls.create(config, engine=engine, metadata=metadata)

    @classmethod
    def create(cls, config: Config, *, engine: str, metadata: Mapping[str, object]) -> RunDirectory:
        """Make the directory `<results-dir>/<run name>` and write `run.json`; as `open`.

        Raises:
            RunError: if the name is taken or the place cannot be written.
        """
        path = new_directory(config)
        try:
            lock = lock_run(path)
            remove_temporary_files(path, "run.json.")
            made_by = provenance_of(config.flat())
            record = first_record(path.name, config, engine, metadata, made_by)
            directory = cls(path, record, lock)
            keep_code(path, made_by.own_code)
            write_record(path, directory._record)
            for code in (own_code_of(config), made_by.own_code):
                remember(code, path)  # whoever starts a run has named its code
            directory._reserve()
            directory._tables.flush()
            directory._log.write("started", engine=engine, identity=record["identity"])
            directory._watch(config, done=0)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise RunError(
                f"cannot write to run.results-dir {path.parent}: {error.strerror}"
            ) from None
        return directory

    @classmethod
    def _resume(
        cls, path: Path, config: Config, engine: str, metadata: Mapping[str, object]
    ) -> RunDirectory:
        check_files(path)  # before even the lock is touched
        lock = lock_run(path)
        try:
            record = check_resumable(path, config)
            if record.get("initial") != metadata.get("initial"):
                raise RunError(
                    f"model.initial = {config.model.initial!r} holds other weights than when the "
                    f"run {path} began: put them back, or choose another run.name"
                )
            directory = cls(path, record, lock)
            made_by = provenance_of(config.flat())
            with written(path):
                directory._remove_temporary_files()
                directory._reserve()
                directory._go_on(config.run.rounds, engine, made_by)
            state = directory.resumed_from
            directory._watch(config, done=state.server_round if state is not None else 0)
        except BaseException:
            lock.release()
            raise
        return directory

    def add(
        self,
        round_row: Row,
        client_rows: Iterable[Row],
        layer_rows: Iterable[Row],
        fault_rows: Iterable[Row] = (),
        label_rows: Iterable[Row] = (),
    ) -> None:
        """Add one round's rows; the tables are rewritten unless that would take too much time.

        Raises:
            ValueError: if a row has a column that its table has not.
            RunError: if it cannot be written: the disk is full, say.
        """
        faults = list(fault_rows)
        rows = {
            "rounds": [round_row],
            "clients": list(client_rows),
            "layers": list(layer_rows),
            "labels": list(label_rows),
            "faults": faults,
        }
        self._tables.add(rows)
        with written(self.path):
            self._saved.add(rows)
            self._log.write_round(round_row, faults)
        if self._callbacks is not None:
            self._callbacks.on_round(round_row)
        with written(self.path):
            self._tables.flush_in_time()

    def table(self, name: str) -> pl.DataFrame:
        """Return the rows so far of the table `name`: of a resumed run, those it goes on from."""
        return self._tables.table(name)

    def round_done(self, state: RunState, *, save: bool | None) -> None:
        """Take note of how the run stands after a round whose rows were added.

        Args:
            state: all that is needed to go on; the caller does not change it any more.
            save: whether to write a checkpoint now; None: if that takes no more than
                `CHECKPOINT_SHARE` of the time. A run that fails writes its latest anyway.

        Raises:
            RunError: if it cannot be written.
        """
        with written(self.path):
            if self._saved.take(state, save=save):
                self._save_latest()

    def note(self, **entries: object) -> None:
        """Keep entries of `run.json`, to be written with the next change of its status."""
        self._record |= entries

    def finish(self, weights: Weights, metadata: Mapping[str, str] | None = None) -> None:
        """Write the final model and tables and mark the run as finished.

        `metadata` goes into the model's file.

        Raises:
            RunError: if they cannot be written.
        """
        with written(self.path):
            self._tables.flush()
            write_atomically(
                self.path / "model.safetensors",
                lambda path: safetensors.numpy.save_file(
                    weights, path, dict(metadata or {}) or None
                ),
            )
            self._end(FINISHED, error=None, model_sha256=weights_hash(weights))
            self._saved.remove()
            self._log.write(FINISHED, seconds=self._seconds)
        self._give_back()
        self._release()

    def fail(self, reason: str, status: str = FAILED) -> None:
        """Keep what there is, so that the run can be resumed, and mark how it ended.

        What cannot be written, on a full disk, keeps nothing else from being written.
        """
        self._give_back()
        try:
            for write in (
                partial(self._end, status, error=reason),
                self._save_latest,
                self._tables.flush,
                partial(self._end, status, error=reason),  # with the digests of what is there now
                partial(self._log.write, status, error=reason),
            ):
                with suppress(*UNWRITABLE):
                    write()
        finally:
            self._release()

    def _reserve(self) -> None:
        (self.path / _RESERVE).write_bytes(bytes(_RESERVED_BYTES))

    def _give_back(self) -> None:
        with suppress(OSError):
            (self.path / _RESERVE).unlink(missing_ok=True)

    def _watch(self, config: Config, *, done: int) -> None:
        self._callbacks = Callbacks(config)
        self._callbacks.on_start(self.path, config, done)

    def _release(self) -> None:
        if self._callbacks is not None:
            self._callbacks.on_end(self._record)
        self._lock.release()

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _save_latest(self) -> None:
        saved = self._saved.save(self._seconds)
        if saved is not None:
            self._log.write("checkpoint", round=saved)

    def _go_on(self, rounds: int, engine: str, made_by: Provenance) -> None:
        self._tables, seconds = self._saved.go_on(rounds)
        self.resumed_from = self._saved.latest
        self._started -= seconds
        done = self.resumed_from.server_round if self.resumed_from is not None else 0
        self.notes = [*map(RunNote, self._saved.refused), RunResumed(done)]
        self._record_resumption(done, engine, made_by)
        self._tables.flush()

    def _record_resumption(self, done: int, engine: str, made_by: Provenance) -> None:
        earlier = self._record.get("resumed")
        entry: dict[str, object] = {"at": timestamp(), "after_round": done, "engine": engine}
        if self._saved.refused:
            entry["refused"] = self._saved.refused
        if changes := made_by.differences(self._record):
            entry |= {"changes": changes, **made_by.entries()}
            keep_code(self.path, made_by.own_code, after_round=done)
            remember(made_by.own_code, self.path)
            said = f"its code is another than before ({in_words(changes)}): its numbers may differ"
            self.notes.append(RunNote(f"{said} from those of an uninterrupted run"))
        self._record.pop(ACCEPTED, None)
        notes = [text_of(note) for note in self.notes]
        self._log.write("resumed", after_round=done, engine=engine, notes=notes)
        self._record |= {
            "status": RUNNING,
            "error": None,
            "finished": None,
            "seconds": None,
            FILES: None,
            "resumed": [*(earlier if isinstance(earlier, list) else []), entry],
        }
        write_record(self.path, self._record)

    def _remove_temporary_files(self) -> None:
        tables = [f"{name}.parquet" for name in TABLES]
        for name in ("run.json", "digests.json", "model.safetensors", *tables):
            remove_temporary_files(self.path, f"{name}.")
        remove_temporary_files(self._saved.folder, "round-")

    def _end(self, status: str, **entries: object) -> None:
        files = [f"{name}.parquet" for name in TABLES]
        self._record |= {
            "status": status,
            "finished": timestamp(),
            "seconds": self._seconds,
            FILES: digests_of(self.path, files),
            **entries,
        }
        write_record(self.path, self._record)
