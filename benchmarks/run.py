"""Client updates a second of `fnl run`, and how much of its workers' time is client steps.

fnl bench run [--workers 1 --workers 2] [--repeats 3] [--flower] [--set group.key=value ...]
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from benchmarks.processes import Flower, fnl, round_seconds
from benchmarks.table import show
from fnl.cli.terminal import Assignments, Json
from fnl.errors import RunError
from fnl.runtime.run_directory import read_run


@dataclass(frozen=True)
class SimulationTimings:
    """A run of `fnl run` in a process of its own.

    Attributes:
        engine: "in-process" or "flower".
        workers: processes that compute.
        updates_a_second: client updates over the wall time of the rounds after the first.
        client_share: of the workers' time in the rounds after the first, the share in clients.
        first_round_seconds: wall time of the first round, which calibrates the noise.
        other_seconds: wall time of the whole process without its rounds.
        model_sha256: equal for equal results.
    """

    engine: str
    workers: int
    updates_a_second: float
    client_share: float
    first_round_seconds: float
    other_seconds: float
    model_sha256: str


def measure_simulation(
    assignments: Sequence[str], *, workers: int, flower: bool = False
) -> SimulationTimings:
    """Run `fnl run` once and read the times that its tables give.

    Args:
        assignments: "group.key=value" over the defaults; features must be in the cache already.
        workers: processes of the in-process engine.
        flower: run on Flower's own engine on Ray instead, with as many workers.

    Raises:
        RunError: if the run fails or has fewer than two rounds.
    """
    with tempfile.TemporaryDirectory() as results:
        engine = ["--engine=flower"] * flower
        changes = [f"--set={text}" for text in (*assignments, f"run.results-dir={results}")]
        wall = fnl("run", f"--workers={workers}", *engine, *changes)
        (path,) = Path(results).iterdir()
        rounds = round_seconds(path)
        if len(rounds) < 3:
            raise RunError("run.rounds must be at least 2: the first round is not measured")
        later = pl.read_parquet(path / "clients.parquet", glob=False).filter(pl.col("round") > 1)
        return SimulationTimings(
            engine="flower" if flower else "in-process",
            workers=workers,
            updates_a_second=len(later) / sum(rounds[2:]),
            client_share=float(later["seconds"].sum()) / (workers * sum(rounds[2:])),
            first_round_seconds=rounds[1],
            other_seconds=wall - sum(rounds),
            model_sha256=str(read_run(path)["model_sha256"]),
        )


def median_simulation(runs: Sequence[SimulationTimings]) -> SimulationTimings:
    """Return the medians of runs of one engine and number of workers."""
    measured = ("updates_a_second", "client_share", "first_round_seconds", "other_seconds")
    medians = {name: statistics.median(getattr(run, name) for run in runs) for name in measured}
    return replace(runs[0], **medians)


def main(
    assignments: Assignments = None,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Default: 1 and 2.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each case.")] = 3,
    flower: Flower = False,
    as_json: Json = False,
) -> None:
    """Measure client updates a second of `fnl run`, and its workers' time inside clients."""
    counts = workers or [1, 2]
    cases = [(count, False) for count in counts] + [(max(counts), True)] * flower
    runs: dict[tuple[int, bool], list[SimulationTimings]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            count, on_flower = case
            one = measure_simulation(assignments or [], workers=count, flower=on_flower)
            runs[case].append(one)
    rows = [median_simulation(mine) for mine in runs.values()]
    columns = {
        "engine": "{0.engine}", "workers": "{0.workers}", "updates/s": "{0.updates_a_second:.2f}",
        "client share": "{0.client_share:.1%}", "first round s": "{0.first_round_seconds:.1f}",
        "other s": "{0.other_seconds:.1f}",
    }  # fmt: skip
    show(rows, columns, as_json=as_json)
