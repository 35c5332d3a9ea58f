"""Cells that were made by other code than would make them now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fnl.runtime.own_code import DECIDING, names_in
from fnl.runtime.provenance import Provenance, in_words, provenance_of
from fnl.runtime.run_record import DAMAGED

REPLACED = "replaced"
"""Folder of a grid: cells that other code had made, and that were run again."""

Record = Mapping[str, object]


class CodeNow:
    """The code that is here now, read once for all cells that name the same of their user's."""

    def __init__(self) -> None:
        self._read: dict[tuple[tuple[str, str], ...], Provenance] = {}

    def changes(self, record: Record | None) -> list[str]:
        """Return in what it differs from what made a cell, in words; empty for one not begun.

        Raises:
            RunError: if own code was edited after this process imported it.
        """
        if record is None or record["status"] == DAMAGED:
            return []
        config = record.get("config")
        flat = config if isinstance(config, Mapping) else {}
        names = tuple(sorted(names_in(flat, DECIDING).items()))
        if names not in self._read:
            self._read[names] = provenance_of(flat)
        return self._read[names].differences(record)


def stale_cells(records: Iterable[tuple[str, Record | None]]) -> dict[str, list[str]]:
    """Return the cells that were begun by other code, by id, and what has changed since."""
    now = CodeNow()
    found = ((cell, now.changes(record)) for cell, record in records)
    return {cell: changes for cell, changes in found if changes}


def said_of(stale: Mapping[str, Sequence[str]], what_follows: str) -> str:
    """Return one line about stale cells."""
    changes = list(dict.fromkeys(change for each in stale.values() for change in each))
    many = f"{len(stale)} cells were" if len(stale) > 1 else "1 cell was"
    return f"{many} made by other code ({in_words(changes)}): {what_follows}"


def set_aside(path: Path) -> None:
    """Move a cell's run directory to where a grid keeps what it has replaced."""
    folder = path.parent.parent / REPLACED
    folder.mkdir(exist_ok=True)
    earlier = sum(1 for _ in folder.glob(f"{path.name}-*"))
    path.rename(folder / f"{path.name}-{earlier + 1}")
