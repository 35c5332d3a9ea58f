"""What a running grid shows: cells done, the rounds of those that run, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from experiments.grid.estimate import in_words
from fnl.config import Config

PLAIN_SECONDS = 30.0
"""Between two lines where there is no terminal to draw on."""


class GridProgress:
    """Bars on a terminal, of the grid and of each cell that runs; a line now and then elsewhere.

    Args:
        cells: cell id -> configuration, of all cells that are to be run.
        costs: cell id -> what it is expected to take, in any unit.
        workers: cells that run side by side.
        console: where to.
    """

    def __init__(
        self,
        cells: Mapping[str, Config],
        costs: Mapping[str, float],
        workers: int,
        console: Console,
    ) -> None:
        self._cells = cells
        self._costs = costs
        self._workers = max(1, min(workers, len(cells)))
        self._console = console
        self._started = time.perf_counter()
        self._next_line = self._started + PLAIN_SECONDS
        self._done_cost = self._done_seconds = 0.0
        self._done = self._failed = 0
        whole = Column(no_wrap=True)  # a narrow terminal takes from the bar
        text = TextColumn("{task.description}", markup=False, table_column=whole)
        columns = text, BarColumn(), MofNCompleteColumn()
        self._bars = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._all = self._bars.add_task("cells", total=len(cells))
        self._running: dict[str, TaskID] = {}

    def __enter__(self) -> GridProgress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

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
        if error is not None:
            self._failed += 1
            self.say(f"failed: {cell}: {error}")

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(message, style="red", markup=False)

    def tell(self, running: Callable[[], list[str]]) -> None:
        """Bring what is shown up to date; `running` names the cells that workers are at."""
        if self._console.is_terminal:
            self._draw(running())
        elif time.perf_counter() >= self._next_line:
            self._next_line = time.perf_counter() + PLAIN_SECONDS
            self._console.print(f"{self._done} of {len(self._cells)} cells, {self._standing()}")

    def _draw(self, running: list[str]) -> None:
        about = f"cells, {self._standing()}"
        self._bars.update(self._all, description=about, completed=self._done)
        for cell in self._running.keys() - set(running):
            self._bars.remove_task(self._running.pop(cell))
        for cell in running:
            if cell not in self._running:
                rounds = self._cells[cell].run.rounds
                self._running[cell] = self._bars.add_task(f"{cell}, rounds", total=rounds)
            self._bars.update(self._running[cell], completed=_round(self._cells[cell]))

    def _standing(self) -> str:
        left = self.seconds_left
        until = "" if left is None else f", about {in_words(left)} left"
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{in_words(time.perf_counter() - self._started)} so far{until}{failed}"


def _round(config: Config) -> int:
    """Return the last round that a running cell has written."""
    path = Path(config.run.results_dir) / config.run.name / "rounds.parquet"
    try:
        return max(0, int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()) - 1)
    except (OSError, pl.exceptions.PolarsError):
        return 0
