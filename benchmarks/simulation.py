"""Client updates a second of `fnl run`, and how much of its workers' time is client steps."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

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
        command = [sys.executable, "-m", "fnl.cli.main", "run", f"--workers={workers}"]
        if flower:
            command.append("--engine=flower")
        command += [f"--set={text}" for text in (*assignments, f"run.results-dir={results}")]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - started
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
            raise RunError(f"fnl run failed: {last[0]}")
        (path,) = Path(results).iterdir()
        rounds = pl.read_parquet(path / "rounds.parquet").sort("round")["seconds"].to_list()
        if len(rounds) < 3:
            raise RunError("run.rounds must be at least 2: the first round is not measured")
        later = pl.read_parquet(path / "clients.parquet").filter(pl.col("round") > 1)
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
    first = runs[0]
    return SimulationTimings(
        engine=first.engine,
        workers=first.workers,
        updates_a_second=statistics.median(run.updates_a_second for run in runs),
        client_share=statistics.median(run.client_share for run in runs),
        first_round_seconds=statistics.median(run.first_round_seconds for run in runs),
        other_seconds=statistics.median(run.other_seconds for run in runs),
        model_sha256=first.model_sha256,
    )
