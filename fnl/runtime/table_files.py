"""A run's tables while they grow: columns in memory, Parquet files on the disk."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from fnl.errors import RunError, one_line
from fnl.runtime.atomic import write_atomically
from fnl.runtime.digests import announce
from fnl.runtime.journal import Row, Rows
from fnl.runtime.tables import TABLES

FLUSH_SHARE = 0.05
"""At most this share of a run's time goes into rewriting its tables."""


_UNFIT = (
    *(ValueError, TypeError, AttributeError, OverflowError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
"""What rows raise that are not those of a table."""


class TableFiles:
    """Collects rows and rewrites `<table>.parquet` in a run directory, now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tables = {name: pl.DataFrame(schema=schema) for name, schema in TABLES.items()}
        self._rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        self._next_flush = 0.0

    def add(self, rows: Rows) -> None:
        """Add one round's rows.

        Raises:
            ValueError: if a row has a column that its table has not.
        """
        for name, added in rows.items():
            for row in added:
                if unknown := row.keys() - TABLES[name].keys():
                    raise ValueError(f"{name} has no column {sorted(unknown)}")
        for name, added in rows.items():
            self._rows[name].extend(added)

    def restore(self, rounds: Sequence[Rows], server_round: int) -> None:
        """Add the rows of a run up to `server_round`, as its journal has them.

        Raises:
            RunError: if they are not the rows of these rounds.
        """
        try:
            for rows in rounds:
                self.add({name: rows.get(name, []) for name in TABLES})
            there = self.table("rounds")["round"].to_list()
            rounds_of = [self.table(name)["round"] for name in TABLES]
            fits = all(column.is_between(0, server_round).all() for column in rounds_of)
        except _UNFIT as error:
            raise RunError(f"its rows do not fit the tables: {one_line(error)}") from None
        if not fits or there != list(range(server_round + 1)):
            raise RunError(f"its rows are not those of the rounds 0 to {server_round}")

    def table(self, name: str) -> pl.DataFrame:
        """Return all rows of the table `name`."""
        if self._rows[name]:
            new = pl.DataFrame(self._rows[name], schema=TABLES[name])
            self._rows[name] = []
            self._tables[name] = pl.concat([self._tables[name], new], rechunk=True)
        return self._tables[name]

    def flush_in_time(self) -> None:
        """Write the tables unless that would take more than `FLUSH_SHARE` of the time."""
        if time.perf_counter() >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Write all tables."""
        started = time.perf_counter()
        files = {f"{name}.parquet": self._parquet(name) for name in TABLES}
        announce(self._path, files)
        for name, data in files.items():
            write_atomically(self._path / name, partial(Path.write_bytes, data=data))
        ended = time.perf_counter()
        self._next_flush = ended + (ended - started) / FLUSH_SHARE

    def _parquet(self, name: str) -> bytes:
        buffer = io.BytesIO()
        self.table(name).write_parquet(buffer)
        return buffer.getvalue()
