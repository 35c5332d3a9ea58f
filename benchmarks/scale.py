"""Rounds with 100 and with 10,000 clients: seconds a round and peak memory of `fnl run`.

Each client holds the same number of clips in both, so that a candidate's work is the same and
only the size of the federation differs. Each federation runs in a fresh process of its own;
memory is the sum of proportional set sizes (PSS) over it and its workers, sampled every 50 ms.

    fnl bench scale [--clients 100 --clients 10000] [--workers 2] [--json]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.processes import FNL, fnl, round_seconds, settings
from fnl.cli.terminal import Json
from fnl.errors import RunError

CLIPS_PER_CLIENT = 8
WORDS = 10
TRAINING_SHARE = 0.8


def federation(clients: int, rounds: int, results: str) -> list[str]:
    """Return the configuration of a federation with `CLIPS_PER_CLIENT` clips a client."""
    clips_per_word = 4 if clients >= 1000 else 2
    speakers = round(clients * CLIPS_PER_CLIENT / (WORDS * clips_per_word * TRAINING_SHARE))
    flat = {
        "data.speakers": max(speakers, 10),
        "data.clips-per-word": clips_per_word,
        "data.clients": clients,
        "data.partitioner": "iid",
        "data.min-clips": 1,
        "training.batch-size": 8,
        "training.local-epochs": 4,
        "privacy.noise-multiplier": 1.0,
        "coordination.candidates": 50,
        "coordination.selected": 25,
        "evaluation.every": rounds,
        "run.rounds": rounds,
        "run.results-dir": results,
    }
    return settings(flat)


def memory_bytes(root: int) -> int:
    """Return the proportional set size of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def measure(clients: int, rounds: int, workers: int) -> dict[str, float]:
    """Run one federation and return its median seconds a round and its peak memory."""
    with tempfile.TemporaryDirectory() as results:
        command = [*FNL, "run", f"--workers={workers}", *federation(clients, rounds, results)]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, memory_bytes(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise RunError(f"the run with {clients} clients failed")
        wall = time.perf_counter() - started
        (run,) = Path(results).iterdir()
        seconds = round_seconds(run)
    # round 0 is set-up, round 1 warms the workers, the last one evaluates
    return {
        "clients": clients,
        "seconds_a_round": statistics.median(seconds[2:-1]),
        "peak_memory_mib": peak / 2**20,
        "wall_seconds": wall,
    }


def main(
    clients: Annotated[
        list[int] | None, typer.Option(help="Repeatable; default: 100 and 10,000.")
    ] = None,
    rounds: int = 12,
    workers: int = 2,
    repeats: int = 3,
    as_json: Json = False,
) -> None:
    """Print the table, or one JSON object."""
    sizes = clients or [100, 10_000]
    for size in sizes:  # corpora are built before anything is timed
        fnl("data", "prepare", *federation(size, rounds, "unused"))
    runs = [measure(size, rounds, workers) for _ in range(repeats) for size in sizes]
    rows = []
    for size in sizes:
        mine = [run for run in runs if run["clients"] == size]
        rows.append(
            {
                "clients": size,
                "seconds_a_round": statistics.median(run["seconds_a_round"] for run in mine),
                "peak_memory_mib": max(run["peak_memory_mib"] for run in mine),
                "wall_seconds": statistics.median(run["wall_seconds"] for run in mine),
            }
        )
    if as_json:
        print(json.dumps({"workers": workers, "federations": rows}))
        return
    for row in rows:
        print(
            f"{row['clients']:>6} clients: {row['seconds_a_round']:.3f} s a round, "
            f"peak {row['peak_memory_mib']:.0f} MiB, {row['wall_seconds']:.1f} s in all"
        )
