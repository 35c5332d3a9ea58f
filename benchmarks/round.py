"""Seconds of one round of federated averaging: a bare loop, our in-process engine, and peers.

All ways do the same work (see `round_work`) and alternate in one process with one thread. On a
busy machine the processor's seconds say more than the clock's, so both are measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.processes import Flower, last_line, quiet_flower
from benchmarks.round_app import APP, serve
from benchmarks.round_bare import run_bare
from benchmarks.round_pfl import run_pfl
from benchmarks.round_work import RoundWork
from fnl.cli.terminal import Json, out
from fnl.errors import RunError
from fnl.runtime.determinism import one_thread
from fnl.runtime.in_process import InProcessGrid
from fnl.runtime.memory import keep_freed_memory
from fnl.weights import Weights

Way = Callable[[RoundWork, int, Callable[[], None]], Weights]
"""Runs rounds of the work, calls back before the first and after each, returns the weights."""

BARE, OURS, PFL, FLOWER = "bare loop", "ours", "pfl-research", "flower on ray"


@dataclass(frozen=True)
class RoundTimings:
    """Medians over all rounds.

    Attributes:
        private: whether local training was private.
        seconds: of a round by the clock, by way.
        cpu_seconds: of a round on the processor, by way; not for ways in other processes.
        over_bare: ratio of processor seconds to the bare loop's.
        skipped: ways that were not run, and why.
        load: runnable processes of the machine during the last minute.
    """

    private: bool
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    over_bare: dict[str, float]
    skipped: dict[str, str]
    load: float


@dataclass
class _Clock:
    moments: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self) -> None:
        self.moments.append((time.perf_counter(), time.process_time()))

    def rounds(self) -> list[tuple[float, float]]:
        return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(self.moments)]


def run_ours(work: RoundWork, rounds: int, on_round: Callable[[], None]) -> Weights:
    """Run the rounds on the in-process engine."""
    grid = InProcessGrid(APP, clients=work.clients, run_config=work.flat())
    try:
        return serve(grid, work, rounds, on_round)
    finally:
        grid.close()


def measure_round(
    work: RoundWork, *, repeats: int = 7, rounds: int = 4, flower: bool = False
) -> RoundTimings:
    """Time a round each way, alternating, after one turn of each to warm up.

    Args:
        work: the work of a round.
        repeats: turns of each way.
        rounds: of a turn.
        flower: also run Flower's own engine once, for about half a minute; default work only.

    Raises:
        RunError: if Flower's engine fails.
    """
    ways: dict[str, Way] = {BARE: run_bare, OURS: run_ours}
    skipped: dict[str, str] = {}
    if work.private:
        skipped[PFL] = "has no example-level DP in local training"
    elif find_spec("pfl") is None:
        skipped[PFL] = "not installed: pip install 'fnl[bench]'"
    else:
        ways[PFL] = run_pfl
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    keep_freed_memory()  # as our engine does: the bare loop shall gain by it too
    with (
        one_thread(),
        quiet_flower(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),  # pfl prints
    ):
        for repeat in range(repeats + 1):
            for name, run in ways.items():
                clock = _Clock()
                run(work, rounds, clock)
                if repeat:
                    measured[name] += clock.rounds()
    seconds = {n: statistics.median(s for s, _ in values) for n, values in measured.items()}
    cpu = {n: statistics.median(c for _, c in values) for n, values in measured.items()}
    if not flower:
        skipped[FLOWER] = "not asked for: --flower"
    elif work != RoundWork():
        skipped[FLOWER] = "runs the default work only"
    else:
        seconds[FLOWER] = statistics.median(_flower_rounds(rounds))
    return RoundTimings(
        private=work.private,
        seconds=seconds,
        cpu_seconds=cpu,
        over_bare={name: value / cpu[BARE] for name, value in cpu.items()},
        skipped=skipped,
        load=os.getloadavg()[0],
    )


def _flower_rounds(rounds: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.round_flower", str(rounds + 1)],
        env=os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not done.stdout.strip():
        raise RunError(f"the round on Flower's engine failed: {last_line(done)}")
    moments = json.loads(done.stdout.strip().splitlines()[-1])
    return [b - a for a, b in pairwise(moments)][1:]  # the first round starts Ray's actor


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 7,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of a turn.")] = 4,
    flower: Flower = False,
    as_json: Json = False,
) -> None:
    """Time a round of federated averaging against a bare loop, pfl-research and Flower on Ray."""
    timings = [
        measure_round(RoundWork(private=private), repeats=repeats, rounds=rounds, flower=flower)
        for private in (False, True)
    ]
    if as_json:
        print(json.dumps({"plain": asdict(timings[0]), "private": asdict(timings[1])}))
        return
    for one in timings:
        kind = "private" if one.private else "plain"
        table = Table("way", "s a round", "CPU s a round", "x bare", title=f"{kind} local training")
        for name, seconds in one.seconds.items():
            cpu = one.cpu_seconds.get(name)
            ratio = one.over_bare.get(name, seconds / one.seconds[BARE])
            table.add_row(name, f"{seconds:.3f}", f"{cpu:.3f}" if cpu else "", f"{ratio:.2f}")
        out.print(table)
        for name, reason in one.skipped.items():
            out.print(f"{name}: {reason}", markup=False)  # fnl[bench] is no markup
        out.print(f"load of the machine: {one.load:.1f}\n")
