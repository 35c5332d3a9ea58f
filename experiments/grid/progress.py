"""What a running grid shows: cells done, the rounds of those that run, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

import polars as pl
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from experiments.grid.directory import GridDirectory
from experiments.grid.estimate import in_words
from fnl.config import Config

PLAIN_SECONDS = 30.0
"""Between two lines where there is no terminal to draw on."""


class GridProgress:
    """A live table on a terminal, a line now and then elsewhere.

    Args:
        directory: where the cells' rounds are read.
        cells: cell id -> configuration, of all cells that are to be run.
        costs: cell id -> what it is expected to take, in any unit.
        workers: cells that run side by side.
        console: where to.
    """

    def __init__(
        self,
        directory: GridDirectory,
        cells: Mapping[str, Config],
        costs: Mapping[str, float],
        workers: int,
        console: Console,
    ) -> None:
        self._directory = directory
        self._cells = cells
        self._costs = costs
        self._workers = max(1, min(workers, len(cells)))
        self._console = console
        self._started = time.perf_counter()
        self._next_line = self._started + PLAIN_SECONDS
        self._done_cost = 0.0
        self._done_seconds = 0.0
        self._done = 0
        self._failed: list[str] = []
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
        )
        self._task: TaskID = self._bar.add_task("cells", total=len(cells))
        self._live = Live(console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> GridProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    @property
    def seconds_left(self) -> float | None:
        """Time to the end, from the cells that are done; None before the first."""
        if not self._done_cost:
            return None
        left = sum(self._costs.values()) - self._done_cost
        return left * self._done_seconds / self._done_cost / self._workers

    def done(self, cell: str, seconds: float, error: str | None) -> None:
        """Count a cell that ended, and say so if it failed."""
        self._done += 1
        self._done_cost += self._costs[cell]
        self._done_seconds += seconds
        self._bar.advance(self._task)
        if error is not None:
            self._failed.append(cell)
            self.say(f"failed: {cell}: {error}")

    def say(self, message: str) -> None:
        """Print a line above the table."""
        self._console.print(message, style="red", markup=False)

    def tell(self, running: Callable[[], list[str]]) -> None:
        """Bring what is shown up to date; `running` names the cells that workers are at."""
        if self._console.is_terminal:
            self._live.update(Group(self._bar, self._table(running())))
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + PLAIN_SECONDS
            self._console.print(f"{self._done} of {len(self._cells)} cells, {self._standing()}")

    def _table(self, running: list[str]) -> Table:
        table = Table("running", "round", caption=self._standing(), box=None)
        for cell in running:
            rounds = self._cells[cell].run.rounds
            table.add_row(cell, f"{self._round(cell)}/{rounds}")
        return table

    def _standing(self) -> str:
        left = self.seconds_left
        until = "" if left is None else f", about {in_words(left)} left"
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return f"{in_words(time.perf_counter() - self._started)} so far{until}{failed}"

    def _round(self, cell: str) -> int:
        """Return the last round that a running cell has written."""
        try:
            table = pl.scan_parquet(self._directory.cells / cell / "rounds.parquet")
            return max(0, int(table.select(pl.len()).collect().item()) - 1)
        except (OSError, pl.exceptions.PolarsError):
            return 0
