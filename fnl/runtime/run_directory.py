"""A run's directory: what was run, how it stands, its tables and its model.

Everything is written atomically, so a reader (and a resumed run) never sees half a file.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import polars as pl
import safetensors.numpy

import fnl
from fnl.config import Config
from fnl.errors import RunError
from fnl.runtime.atomic import write_atomically
from fnl.runtime.tables import CLIENTS, LAYERS, ROUNDS
from fnl.weights import Weights, weights_hash

RUNNING, FINISHED, FAILED = "running", "finished", "failed"
FLUSH_SHARE = 0.05
"""At most this share of a run's time goes into rewriting its tables."""

_TABLES = {"rounds": ROUNDS, "clients": CLIENTS, "layers": LAYERS}
_PACKAGES = ("torch", "snntorch", "flwr", "opacus", "torchaudio", "numpy", "polars", "numba")


class RunDirectory:
    """Writer of one run's directory. Readers use `read_run` and the parquet files."""

    def __init__(self, path: Path, record: dict[str, object]) -> None:
        self.path = path
        self._record = record
        self._started = time.perf_counter()
        self._rows: dict[str, list[Mapping[str, object]]] = {name: [] for name in _TABLES}
        self._next_flush = 0.0

    @classmethod
    def create(cls, config: Config, *, engine: str, facts: Mapping[str, object]) -> RunDirectory:
        """Make the directory `<results-dir>/<run name>` and write `run.json`.

        Args:
            config: the resolved configuration.
            engine: which engine runs it.
            facts: further entries of `run.json`, e.g. the corpus and the guarantee.

        Raises:
            RunError: if the name is taken or the place cannot be written.
        """
        results = Path(config.run.results_dir).expanduser().absolute()
        path = _new_directory(results, config)
        record: dict[str, object] = {
            "name": path.name,
            "status": RUNNING,
            "error": None,
            "engine": engine,
            "started": _now(),
            "finished": None,
            "seconds": None,
            "seed": config.run.seed,
            "identity": config.identity(),
            "versions": _versions(),
            "source": str(Path(fnl.__file__).parent),
            **facts,
            "config": config.flat(),
        }
        directory = cls(path, record)
        try:
            directory._write_record()
            directory.flush()
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise RunError(f"cannot write to run.results-dir {results}: {error.strerror}") from None
        return directory

    def add(
        self,
        round_row: Mapping[str, object],
        client_rows: Iterable[Mapping[str, object]],
        layer_rows: Iterable[Mapping[str, object]],
    ) -> None:
        """Add one round's rows; the tables are rewritten unless that would take too much time.

        Raises:
            ValueError: if a row has a column that its table has not.
        """
        added = {"rounds": [round_row], "clients": list(client_rows), "layers": list(layer_rows)}
        for name, rows in added.items():
            for row in rows:
                if unknown := row.keys() - _TABLES[name].keys():
                    raise ValueError(f"{name} has no column {sorted(unknown)}")
            self._rows[name].extend(rows)
        if time.perf_counter() >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Write all three tables."""
        started = time.perf_counter()
        for name, schema in _TABLES.items():
            table = pl.DataFrame(self._rows[name], schema=schema)
            write_atomically(self.path / f"{name}.parquet", table.write_parquet)
        ended = time.perf_counter()
        self._next_flush = ended + (ended - started) / FLUSH_SHARE

    def save_checkpoint(self, server_round: int, weights: Weights) -> None:
        """Write the global model after `server_round`."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        _save_weights(folder / f"round-{server_round:06d}.safetensors", weights)

    def finish(self, weights: Weights) -> None:
        """Write the final model and tables and mark the run as finished."""
        self.flush()
        _save_weights(self.path / "model.safetensors", weights)
        self._end(FINISHED, model_sha256=weights_hash(weights))

    def fail(self, reason: str) -> None:
        """Keep what there is and mark the run as failed."""
        self.flush()
        self._end(FAILED, error=reason)

    def _end(self, status: str, **entries: object) -> None:
        seconds = time.perf_counter() - self._started
        self._record |= {"status": status, "finished": _now(), "seconds": seconds, **entries}
        self._write_record()

    def _write_record(self) -> None:
        text = json.dumps(self._record, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / "run.json", lambda path: _write_text(path, text))


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


def _new_directory(results: Path, config: Config) -> Path:
    base = config.run.name or _automatic_name(config)
    path = results / base
    attempt = 1
    try:
        results.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                if config.run.name:
                    raise RunError(
                        f"the run {path} exists already: choose another run.name or remove it"
                    ) from None
                attempt += 1
                path = results / f"{base}-{attempt}"
            else:
                return path
    except OSError as error:
        raise RunError(f"cannot write to run.results-dir {results}: {error.strerror}") from None


def _automatic_name(config: Config) -> str:
    privacy = f"eps{config.privacy.epsilon:g}" if config.is_private else "nonprivate"
    return f"{config.data.corpus}-{privacy}-seed{config.run.seed}-{config.identity()[:6]}"


def _save_weights(path: Path, weights: Weights) -> None:
    write_atomically(path, lambda temporary: safetensors.numpy.save_file(weights, temporary))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "fnl": fnl.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
