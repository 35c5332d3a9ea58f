"""A grid's directory: which cells it has, how each stands, and who works on it.

<results-dir>/<grid name>/grid.json          the cells of the last grid file that was run
                          cells/<cell id>/   a run directory a cell; run.json: what it took
                          cells.parquet, results.parquet, summary.parquet
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from experiments.grid.cells import Cell, KnownCell
from fnl.config import Config, Scalar, parse_config
from fnl.errors import RunError, one_line
from fnl.runtime.atomic import write_text_atomically
from fnl.runtime.digests import check_digest, write_digests
from fnl.runtime.regular_files import regular
from fnl.runtime.run_lock import is_taken, take
from fnl.runtime.run_record import DAMAGED, FINISHED, INTERRUPTED, RUNNING, read_run

PENDING = "pending"
"""Status that only a grid knows: not begun."""

CHECKPOINTS = 10
"""Checkpoints of a cell whose grid file does not say how many rounds lie between two."""


@dataclass(frozen=True)
class Manifest:
    """Content of `grid.json`.

    Attributes:
        name: the grid's name.
        keys: the varied keys.
        baseline: what cells are compared with.
        cells: the cells, in the order of the file.
        source: text of the grid file.
        overrides: what `--set` laid over its base.
    """

    name: str
    keys: tuple[str, ...]
    baseline: Mapping[str, Scalar]
    cells: tuple[KnownCell, ...]
    source: str
    overrides: Mapping[str, Scalar]


_MANIFEST = TypeAdapter(Manifest)
_LOCK = ".driver.lock"


class GridDirectory:
    """One grid's files. Reading needs no lock; whoever runs cells holds `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells = path / "cells"

    @classmethod
    def open(cls, path: Path) -> GridDirectory:
        """Return an existing grid's directory.

        Raises:
            RunError: if it holds no grid.
        """
        if not (path / "grid.json").is_file():
            raise RunError(
                f"{path} is not a grid's directory: it has no grid.json; "
                "give <results-dir>/<grid name> of a `fnl grid run`"
            )
        return cls(path.absolute())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers away from this directory, which is made if need be.

        Raises:
            RunError: if another one is at work, or the place cannot be written.
        """
        busy = f"another `fnl grid run` is at work in {self.path}: wait for its end, "
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            lock = take(self.path / _LOCK, f"{busy}or give another --results-dir")
        except (OSError, NotImplementedError) as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def is_driven(self) -> bool:
        """Whether some `fnl grid run` holds the lock now."""
        return is_taken(self.path / _LOCK)

    def write(self, manifest: Manifest) -> None:
        """Put `manifest` in place of `grid.json`.

        Raises:
            RunError: if the disk does not take it.
        """
        text = _MANIFEST.dump_json(manifest, indent=1).decode() + "\n"
        try:
            write_text_atomically(self.path / "grid.json", text)
            write_digests(self.path, ["grid.json"])
        except OSError as error:
            raise self._unwritable(error) from None

    def manifest(self) -> Manifest:
        """Return what `grid.json` records.

        Raises:
            RunError: if it is not a grid's record.
        """
        path = self.path / "grid.json"
        check_digest(path)
        try:
            manifest = _MANIFEST.validate_json(regular(path).read_bytes())
            for cell in manifest.cells:
                _check_cell(cell, manifest.keys)
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is not a grid's record: {one_line(error)}") from None
        return manifest

    def record(self, cell: str) -> dict[str, object] | None:
        """Return a cell's `run.json`; None if it has not begun."""
        return record_of(self.cells / cell)

    @staticmethod
    def standing(record: Mapping[str, object] | None, *, driven: bool) -> str:
        """Return how a cell stands: pending, running, interrupted, finished or failed.

        Args:
            record: its `run.json`.
            driven: whether a driver is at work: without one, nothing runs.
        """
        if record is None:
            return PENDING
        if record["status"] == RUNNING and not driven:
            return INTERRUPTED
        return str(record["status"])

    def finished(self, cells: Sequence[Cell]) -> set[str]:
        """Return the ids of those cells that need not be run any more."""
        records = ((cell.id, self.record(cell.id)) for cell in cells)
        return {cell for cell, record in records if record and record["status"] == FINISHED}

    def config_to_run(self, cell: Cell) -> Config:
        """Return a cell's configuration with its place in this directory, and with checkpoints."""
        run = cell.config.run
        place = {
            "run.name": cell.id,
            "run.results-dir": str(self.cells),
            "run.checkpoint-every": run.checkpoint_every or max(1, run.rounds // CHECKPOINTS),
        }
        return parse_config(cell.config.flat() | place)

    def _unwritable(self, error: OSError | NotImplementedError) -> RunError:
        return RunError(f"cannot write to {self.path}: {getattr(error, 'strerror', None) or error}")


def _check_cell(cell: KnownCell, keys: Sequence[str]) -> None:
    """Raise `ValueError` unless a cell lies in the grid's directory and has its keys."""
    for name in (cell.id, cell.twin or cell.id):
        if not re.fullmatch(r"[\w.+-]+", name, re.ASCII) or set(name) == {"."}:
            raise ValueError(f"{name!r:.60} is no name of a cell")
    if missing := [key for key in keys if "." not in key or key not in cell.values]:
        raise ValueError(f"the cell {cell.id} has no value of {missing[0]!r:.60}")


def record_of(path: Path) -> dict[str, object] | None:
    """Return the `run.json` in a run directory; None if there is none.

    Of one that is damaged it has the status `DAMAGED` and says why.
    """
    if not (path / "run.json").exists():
        return None
    try:
        return read_run(path)
    except RunError as error:
        return {"status": DAMAGED, "error": str(error)}


def taken(record: Mapping[str, object] | None, what: str) -> float | None:
    """Return what the worker of a cell says it took, such as `seconds`; None where it does not."""
    worker = record.get("worker") if record else None
    value = worker.get(what) if isinstance(worker, dict) else None
    return value if isinstance(value, int | float) else None
