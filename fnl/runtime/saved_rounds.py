"""What a run goes on from: checkpoints of its rounds, and the journal of their rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fnl.errors import RunError
from fnl.runtime.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from fnl.runtime.journal import Journal, Mark, Row, check, read
from fnl.runtime.table_files import TableFiles

FIRST_CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.01
"""At most this share of a run's time goes into checkpoints that nobody asked for."""


class SavedRounds:
    """Checkpoints and journal of the run at `path`, whose configuration has this identity.

    Attributes:
        latest: how the run stands; None before its first round is done.
        refused: what was wrong with checkpoints that did not hold.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.latest: RunState | None = None
        self.refused: list[str] = []
        self._path, self._identity = path, identity
        self._journal: Journal | None = None
        self._saved: int | None = None
        self._next_save = time.perf_counter() + FIRST_CHECKPOINT_SECONDS
        self._saves_by_time = False

    @property
    def folder(self) -> Path:
        """Where the checkpoints lie; made if it is not there."""
        folder = self._path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def _rows(self) -> Path:
        return self.folder / "rows.jsonl"

    def add(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Add the rows of a round to the journal, table -> rows."""
        if self._journal is None:
            self._journal = Journal(self._rows)
        self._journal.add(rows)

    def take(self, state: RunState, *, save: bool | None) -> bool:
        """Take note of `state`; return whether to `save` it, see `RunDirectory.round_done`."""
        self.latest = state
        self._saves_by_time |= save is None
        if save is None:
            return time.perf_counter() >= self._next_save and state.server_round > 0
        return save

    def save(self, seconds: float) -> int | None:
        """Write the latest state of a run that took so long; return its round, None if it was."""
        state, started = self.latest, time.perf_counter()
        if state is None or state.server_round == self._saved:
            return None
        mark = self._journal.mark() if self._journal is not None else Mark()
        checkpoint = Checkpoint(**vars(state), identity=self._identity, mark=mark, seconds=seconds)
        save_checkpoint(self.folder, checkpoint)
        self._saved, ended = state.server_round, time.perf_counter()
        self._next_save = ended + (ended - started) / CHECKPOINT_SHARE
        return self._saved

    def go_on(self, rounds: int) -> tuple[TableFiles, float]:
        """Go on from the newest checkpoint that holds; return its tables and the run's seconds.

        Those that do not hold are set aside. Without any it is the run's start.
        """
        for path in checkpoints(self.folder):
            tables = TableFiles(self._path)
            try:
                checkpoint = load_checkpoint(path, identity=self._identity)
                if checkpoint.server_round > rounds:
                    raise RunError(f"{path.name} is behind the last of {rounds} rounds")
                check(self._rows, checkpoint.mark)
                tables.restore(read(self._rows, checkpoint.mark), checkpoint.server_round)
            except RunError as error:
                self.refused.append(f"checkpoint refused: {error}")
                path.replace(path.with_suffix(".refused"))
            else:
                self._journal = Journal(self._rows, checkpoint.mark)
                self._saved, self.latest = checkpoint.server_round, checkpoint
                return tables, checkpoint.seconds
        self._journal = Journal(self._rows)
        return TableFiles(self._path), 0.0

    def remove(self) -> None:
        """Remove what a finished run does not need: the journal, and what nobody asked for."""
        if self._journal is not None:
            self._journal.remove()
        if self._saves_by_time:
            for path in checkpoints(self.folder):
                path.unlink()
