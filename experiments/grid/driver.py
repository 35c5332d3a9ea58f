"""Running a grid: every cell that is not finished, as Ray tasks, whatever happens to some."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from experiments.grid.cells import Cell, Grid, check_own_code, expand
from experiments.grid.directory import GridDirectory, Manifest
from experiments.grid.estimate import (
    Cost,
    Costs,
    Probes,
    costs_of_cells,
    expected_costs,
    kind_of,
    said_of_costs,
)
from experiments.grid.grid_file import read_grid_file
from experiments.grid.progress import GridProgress
from experiments.grid.ray_session import placement, ray_session
from experiments.grid.stale import said_of, stale_cells
from fnl.config import Config, Scalar
from fnl.data.federated import prepare
from fnl.device import chosen_device
from fnl.errors import FnlError, RunError
from fnl.runtime.run_directory import RUNNING

if TYPE_CHECKING:
    from experiments.grid.worker import Outcome

MOST_PROBED = 8
"""Kinds of cells that are probed; others are reckoned from those most like them."""

RAY_SECONDS = 10.0
"""That Ray takes to start, with workers that import, and to end: what a run takes beside cells."""

ATTEMPTS = 3
"""How often a cell is begun whose worker dies under it."""

POLL_SECONDS = 0.5


class Work(NamedTuple):
    """A grid that was checked, and what is left of it.

    Attributes:
        grid: the grid.
        directory: its files, which need not be there.
        finished: cells that need not be run.
        waiting: the others.
    """

    grid: Grid
    directory: GridDirectory
    finished: Sequence[Cell]
    waiting: Sequence[Cell]


class GridResult(NamedTuple):
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
    path: Path,
    overrides: Mapping[str, Scalar],
    results: Path,
    console: Console,
    *,
    keep_stale: bool = False,
) -> Work:
    """Read a grid file, check every cell, and say what it holds and what is left of it.

    Raises:
        ConfigError: naming the file and what is wrong in it.
    """
    grid = expand(read_grid_file(path, overrides), path)
    directory = GridDirectory((results / grid.name).expanduser().absolute())
    stale = stale_cells((cell.id, directory.record(cell.id)) for cell in grid.cells)
    known = directory.finished(grid.cells) - (set() if keep_stale else stale.keys())
    twins = sum(cell.is_twin for cell in grid.cells)
    repeated = f" ({grid.repeated} more are the same without privacy)" if grid.repeated else ""
    console.print(
        f"grid {grid.name}: {len(grid.cells)} cells{repeated}, {twins} of them twins, "
        f"{len(known)} finished already"
    )
    if stale:
        kept = "they are kept and gone on with as they are"
        again = "they are run again; --keep-stale keeps them"
        console.print(said_of(stale, kept if keep_stale else again))
    finished = [cell for cell in grid.cells if cell.id in known]
    return Work(grid, directory, finished, [cell for cell in grid.cells if cell.id not in known])


def estimate_grid(work: Work, workers: int, console: Console) -> None:
    """Say how long what is left of a grid will take here; nothing of it is run or written.

    A kind of cells of which none has finished is probed: its first rounds are run elsewhere.

    Args:
        work: from `check_grid`.
        workers: cells that would run side by side.
        console: where it is said.

    Raises:
        FnlError: if no cell has data.
    """
    from experiments.grid.probe import probes_here  # noqa: PLC0415 heavy

    if not work.waiting:
        return
    check_own_code(work.waiting)
    _prepare(work.waiting, console)

    def probes(configs: Sequence[Config], processes: int) -> Iterator[tuple[Config, Cost]]:
        if configs:
            kinds = len(set(map(kind_of, configs)))
            console.print(f"timing the first rounds, kinds of cells: {kinds}; Ctrl-C leaves it")
        return probes_here(configs, processes)

    _expected(work, workers, MOST_PROBED, probes, console, beside=RAY_SECONDS)


def run_grid(
    path: Path,
    *,
    overrides: Mapping[str, Scalar],
    results: Path,
    workers: int,
    ray_address: str,
    console: Console,
    keep_stale: bool = False,
) -> GridResult:
    """Run every cell of a grid file that is not finished, or was made by other code.

    Args:
        path: the grid file.
        overrides: values laid over its base.
        results: the folder in which the grid has its directory.
        workers: cells that run side by side on this machine.
        ray_address: a running cluster's head; empty: this machine.
        console: where progress is shown.
        keep_stale: keep what other code has made, and go on with it.

    Raises:
        ConfigError: if the file, or one of its cells, cannot be run.
        RunError: if another driver is at work, Ray cannot be had, or the disk is full.
    """
    work = check_grid(path, overrides, results, console, keep_stale=keep_stale)
    with work.directory.locked():
        work.directory.write(manifest_of(work.grid, path, overrides))
        failed: Mapping[str, str] = {}
        if work.waiting:
            if not ray_address:  # a cluster's machines may have what this one has not
                check_own_code(work.waiting)
                for cell in work.waiting:
                    chosen_device(cell.config)
            _prepare(work.waiting, console)
            with ray_session(workers=workers, address=ray_address) as cores:
                from experiments.grid.probe import probes_on_ray  # noqa: PLC0415 heavy

                # a probe a core: cells that finish will tell the rest
                expected = _expected(work, cores, cores, probes_on_ray, console)
                failed = _run(work, expected, console, cores=cores, keep_stale=keep_stale)
    return GridResult(work.directory, len(work.grid.cells) - len(failed), failed)


def manifest_of(grid: Grid, path: Path, overrides: Mapping[str, Scalar]) -> Manifest:
    """Return what is recorded of a grid."""
    asked = (path.read_text(encoding="utf-8"), dict(overrides))
    return Manifest(grid.name, grid.keys, grid.baseline, grid.cells, *asked)


def _prepare(cells: Sequence[Cell], console: Console) -> None:
    """Compute features and partitionings that cells share, once, before any worker wants them.

    Raises:
        FnlError: if no cell has data; where only some have none, those will fail and say so.
    """
    kinds = {(c.config.data, c.config.run.seed, c.config.evaluation.split): c for c in cells}
    errors = []
    for cell in kinds.values():
        try:
            prepare(cell.config, progress=console.is_terminal)
        except FnlError as error:
            errors.append(error)
    if len(errors) == len(kinds):
        raise errors[0]


def _expected(
    work: Work, cores: int, most: int, probes: Probes, console: Console, *, beside: float = 0.0
) -> Costs | None:
    """Say what the cells that wait will take, and `beside` them in seconds, and return it."""
    configs = [cell.config for cell in work.waiting]
    finished = {cell.id: cell.config for cell in work.finished}
    known = costs_of_cells(work.directory.cells, finished)
    expected = expected_costs(configs, known, cores, most, probes)
    console.print(said_of_costs(expected, configs, cores, beside=beside))
    return expected


def _run(
    work: Work, expected: Costs | None, console: Console, *, cores: int, keep_stale: bool
) -> Mapping[str, str]:
    """Run the cells as tasks, again where a worker dies; returns those that failed, and why.

    Raises:
        RunError: if the disk is full.
    """
    import ray  # noqa: PLC0415 only within a session
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 only within a session

    from experiments.grid.worker import run_cell  # noqa: PLC0415 heavy

    directory = work.directory
    configs = {cell.id: directory.config_to_run(cell) for cell in work.waiting}
    costs = {
        cell.id: expected.seconds(cell.config) if expected else float(cell.config.run.rounds)
        for cell in work.waiting
    }
    # the longest first: what is left for the end is short, and no core waits long for another
    todo = deque(sorted(configs, key=lambda cell: -costs[cell]))
    task = ray.remote(run_cell)
    running: dict[ray.ObjectRef[Outcome], str] = {}
    attempts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    with GridProgress(configs, costs, cores, console) as progress:
        while todo or running:
            while todo and len(running) < 2 * cores:  # who is free finds its next cell there
                cell = todo.popleft()
                attempts[cell] += 1
                placed = task.options(**placement(configs[cell], cores))
                one = placed.remote(configs[cell].flat(), keep_stale)  # pyright: ignore[reportCallIssue] Ray's types know no defaults
                running[one] = cell
            ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for one in ready:
                cell = running.pop(one)
                try:
                    outcome = ray.get(one)
                except RayTaskError as error:
                    outcome = _lost(configs[cell], " ".join(str(error).split())[-300:])
                except RayError as error:
                    kind = type(error).__name__
                    if attempts[cell] < ATTEMPTS:
                        progress.say(f"{cell}: its worker died ({kind}), another goes on with it")
                        todo.appendleft(cell)
                        continue
                    died = f"its worker died {ATTEMPTS} times ({kind}): killed, or out of memory"
                    outcome = _lost(configs[cell], died)
                if outcome.stops_the_grid:
                    raise RunError(
                        f"no room for results in {directory.path} ({outcome.error}): make room and "
                        "give the same command again, finished cells are kept"
                    )
                if outcome.error is not None:
                    failed[cell] = outcome.error
                progress.done(cell, outcome.seconds, outcome.error)
            progress.tell(lambda: _at_work(running.values(), directory))
    return failed


def _lost(config: Config, reason: str) -> Outcome:
    """Record a cell as failed whose worker could not."""
    from experiments.grid.worker import Outcome, record_failure  # noqa: PLC0415 heavy

    try:
        record_failure(config, reason)
    except FnlError as error:
        reason = f"{reason}; {error}"
    return Outcome(0.0, reason)


def _at_work(cells: Iterable[str], directory: GridDirectory) -> list[str]:
    """Return the cells whose run directory says that they run."""
    records = {cell: directory.record(cell) for cell in cells}
    return [cell for cell, record in records.items() if record and record["status"] == RUNNING]
