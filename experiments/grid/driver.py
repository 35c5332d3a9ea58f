"""Running a grid: every cell that is not finished, as Ray tasks, whatever happens to some."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.grid.cells import Cell, Grid, expand
from experiments.grid.directory import GridDirectory, Taken
from experiments.grid.estimate import (
    Estimate,
    available_memory_bytes,
    estimate,
    estimate_from_cells,
    in_words,
)
from experiments.grid.grid_file import read_grid_file
from experiments.grid.progress import GridProgress
from experiments.grid.ray_session import ray_session
from fnl.config import Config, Scalar
from fnl.data.federated import prepare
from fnl.errors import FnlError, RunError
from fnl.runtime.run_directory import RUNNING

if TYPE_CHECKING:
    from ray import ObjectRef

    from experiments.grid.worker import Outcome

ATTEMPTS = 3
"""How often a cell is begun whose worker dies under it."""

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class GridResult:
    """How a grid ended.

    Attributes:
        directory: its files.
        finished: cells that are finished, earlier ones included.
        failed: cell id -> reason.
    """

    directory: GridDirectory
    finished: int
    failed: Mapping[str, str]


def check_grid(
    path: Path, overrides: Mapping[str, Scalar], results: Path, console: Console
) -> tuple[Grid, GridDirectory]:
    """Read a grid file, check every cell, and say what it holds.

    Raises:
        ConfigError: naming the file and what is wrong in it.
    """
    grid = expand(read_grid_file(path, overrides), path)
    directory = GridDirectory((results / grid.name).expanduser().absolute())
    known = len(directory.finished(grid.cells))
    twins = sum(cell.is_twin for cell in grid.cells)
    repeated = f" ({grid.repeated} more are the same without privacy)" if grid.repeated else ""
    console.print(
        f"grid {grid.name}: {len(grid.cells)} cells{repeated}, {twins} of them twins, "
        f"{known} finished already"
    )
    return grid, directory


def run_grid(
    path: Path,
    *,
    overrides: Mapping[str, Scalar],
    results: Path,
    workers: int,
    ray_address: str,
    console: Console,
) -> GridResult:
    """Run every cell of a grid file that is not finished.

    Args:
        path: the grid file.
        overrides: values laid over its base.
        results: the folder in which the grid has its directory.
        workers: cells that run side by side on this machine.
        ray_address: a running cluster's head; empty: this machine.
        console: where progress is shown.

    Raises:
        ConfigError: if the file, or one of its cells, cannot be run.
        RunError: if another driver is at work, Ray cannot be had, or the disk is full.
    """
    grid, directory = check_grid(path, overrides, results, console)
    with directory.locked():
        directory.write_manifest(grid, path.read_text(encoding="utf-8"), overrides)
        finished = directory.finished(grid.cells)
        waiting = [cell for cell in grid.cells if cell.id not in finished]
        failed: Mapping[str, str] = {}
        if waiting:
            _prepare(waiting, console)
            with ray_session(workers=workers, address=ray_address) as cores:
                failed = _run(grid, waiting, directory, cores, console)
    return GridResult(directory, len(grid.cells) - len(failed), failed)


def _prepare(cells: Sequence[Cell], console: Console) -> None:
    """Compute features and partitionings that cells share, once, before any worker wants them.

    Raises:
        FnlError: if no cell has data; where only some have none, those will fail and say so.
    """
    kinds = {
        (cell.config.data, cell.config.run.seed, cell.config.evaluation.split): cell
        for cell in cells
    }
    errors = []
    for cell in kinds.values():
        try:
            prepare(cell.config, progress=console.is_terminal)
        except FnlError as error:
            errors.append(error)
    if len(errors) == len(kinds):
        raise errors[0]


def _run(
    grid: Grid, waiting: Sequence[Cell], directory: GridDirectory, cores: int, console: Console
) -> Mapping[str, str]:
    configs = {cell.id: directory.config_to_run(cell) for cell in waiting}
    expected = _estimate(grid, waiting, directory, cores)
    _say_estimate(expected, waiting, cores, console)
    costs = {
        cell.id: expected.seconds(cell.config) if expected else float(cell.config.run.rounds)
        for cell in waiting
    }
    # the longest first: what is left for the end is short, and no core waits long for another
    order = sorted(configs, key=lambda cell: -costs[cell])
    with GridProgress(directory, configs, costs, cores, console) as progress:
        return _Tasks(configs, directory, progress, cores).run(order)


def _estimate(
    grid: Grid, waiting: Sequence[Cell], directory: GridDirectory, cores: int
) -> Estimate | None:
    import ray  # noqa: PLC0415 only within a session

    from experiments.grid.worker import calibrate, warm_up  # noqa: PLC0415 heavy

    ids = {cell.id for cell in waiting}
    done = {cell.id: cell.config for cell in grid.cells if cell.id not in ids}
    peaks = {cell: taken.peak_bytes for cell, taken in directory.journal().items()}
    if known := estimate_from_cells(directory.cells, done, peaks):
        return known
    probe = next((cell for cell in waiting if cell.config.is_private), waiting[0])
    shot = ray.remote(calibrate).options(max_retries=0).remote(probe.config.flat())
    others = [ray.remote(warm_up).options(max_retries=0).remote() for _ in range(cores - 1)]
    try:
        measurement = ray.get(shot)
    except Exception:  # the cell itself will say what is wrong, and be recorded
        return None
    finally:
        ray.wait(others, num_returns=len(others), timeout=30) if others else None
    return estimate([measurement], "one round of two clients")


def _say_estimate(
    expected: Estimate | None, waiting: Sequence[Cell], cores: int, console: Console
) -> None:
    if expected is None:
        console.print(f"{len(waiting)} cells to run on {cores} cores")
        return
    seconds = sum(expected.seconds(cell.config) for cell in waiting) / min(cores, len(waiting))
    memory = expected.peak_bytes * cores
    console.print(
        f"{len(waiting)} cells to run on {cores} cores: about {in_words(seconds)} and "
        f"{memory / 2**30:.1f} GiB of memory, from {expected.source}"
    )
    if memory > available_memory_bytes() > 0:
        free = available_memory_bytes() / 2**30
        console.print(f"only {free:.1f} GiB of memory are free: give fewer --workers")


class _Tasks:
    """The cells' tasks: started, collected, and started again when a worker dies."""

    def __init__(
        self,
        configs: Mapping[str, Config],
        directory: GridDirectory,
        progress: GridProgress,
        cores: int,
    ) -> None:
        import ray  # noqa: PLC0415 only within a session

        from experiments.grid.worker import run_cell  # noqa: PLC0415 heavy

        self._ray = ray
        self._task = ray.remote(run_cell).options(max_retries=0)
        self._configs = configs
        self._directory = directory
        self._progress = progress
        self._ahead = 2 * cores  # a worker that is free finds its next cell there already
        self._running: dict[ObjectRef[Outcome], str] = {}
        self._attempts = dict.fromkeys(configs, 0)
        self._failed: dict[str, str] = {}

    def run(self, order: Sequence[str]) -> Mapping[str, str]:
        """Run the cells; returns those that failed with their reasons.

        Raises:
            RunError: if the disk is full.
        """
        todo = deque(order)
        while todo or self._running:
            while todo and len(self._running) < self._ahead:
                self._start(todo.popleft())
            ready, _ = self._ray.wait(list(self._running), timeout=POLL_SECONDS)
            for task in ready:
                cell = self._running.pop(task)
                if self._collect(cell, task):
                    todo.appendleft(cell)
            self._progress.tell(self._at_work)
        return self._failed

    def _start(self, cell: str) -> None:
        self._attempts[cell] += 1
        self._running[self._task.remote(self._configs[cell].flat())] = cell

    def _collect(self, cell: str, task: ObjectRef[Outcome]) -> bool:
        """Take a task's outcome; returns whether the cell is to be begun again."""
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 only within a session

        try:
            outcome = self._ray.get(task)
        except RayTaskError as error:
            self._fail(cell, " ".join(str(error).split())[-300:])
            return False
        except RayError as error:
            kind = type(error).__name__
            if self._attempts[cell] < ATTEMPTS:
                self._progress.say(f"{cell}: its worker died ({kind}), another goes on with it")
                return True
            self._fail(cell, f"its worker died {ATTEMPTS} times ({kind}): killed, or out of memory")
            return False
        if outcome.stops_the_grid:
            raise RunError(
                f"no room for results in {self._directory.path} ({outcome.error}): make room and "
                "give the same command again, finished cells are kept"
            )
        self._directory.note(outcome.taken)
        self._end(cell, outcome.taken, outcome.error)
        return False

    def _fail(self, cell: str, reason: str) -> None:
        from experiments.grid.worker import record_failure  # noqa: PLC0415 heavy

        try:
            record_failure(self._configs[cell], reason)
        except FnlError as error:
            reason = f"{reason}; {error}"
        self._end(cell, Taken(cell, 0.0, 0.0, 0.0, 0), reason)

    def _end(self, cell: str, taken: Taken, error: str | None) -> None:
        if error is not None:
            self._failed[cell] = error
        self._progress.done(cell, taken.seconds, error)

    def _at_work(self) -> list[str]:
        """Return the cells whose run directory says that they run."""
        started = []
        for cell in self._running.values():
            record = self._directory.record(cell)
            if record and record["status"] == RUNNING:
                started.append(cell)
        return started
