"""Rounds with 100 and with 10,000 clients: seconds a round and peak memory of `fnl run`.

Each client holds the same number of clips in both, so that a candidate's work is the same and
only the size of the federation differs. Each federation runs in a fresh process of its own;
memory is the sum of proportional set sizes (PSS) over it and its workers, sampled every 50 ms.

    python benchmarks/scale.py [--clients 100 10000] [--workers 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

CLIPS_PER_CLIENT = 8
WORDS = 10
TRAINING_SHARE = 0.8


def settings(clients: int, rounds: int, results: str) -> list[str]:
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
    return [f"--set={key}={value}" for key, value in flat.items()]


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
        command = [sys.executable, "-m", "fnl.cli.main", "run", f"--workers={workers}"]
        command += settings(clients, rounds, results)
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, memory_bytes(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"the run with {clients} clients failed")
        wall = time.perf_counter() - started
        (run,) = Path(results).iterdir()
        seconds = pl.read_parquet(run / "rounds.parquet")["seconds"].to_list()
    # round 0 is set-up, round 1 warms the workers, the last one evaluates
    return {
        "clients": clients,
        "seconds_a_round": statistics.median(seconds[2:-1]),
        "peak_memory_mib": peak / 2**20,
        "wall_seconds": wall,
    }


def main() -> None:
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for clients in options.clients:  # corpora are built before anything is timed
        prepare = [sys.executable, "-m", "fnl.cli.main", "data", "prepare"]
        subprocess.run([*prepare, *settings(clients, options.rounds, "unused")], check=True)
    runs = [
        measure(clients, options.rounds, options.workers)
        for _ in range(options.repeats)
        for clients in options.clients
    ]
    rows = []
    for clients in options.clients:
        mine = [run for run in runs if run["clients"] == clients]
        rows.append(
            {
                "clients": clients,
                "seconds_a_round": statistics.median(run["seconds_a_round"] for run in mine),
                "peak_memory_mib": max(run["peak_memory_mib"] for run in mine),
                "wall_seconds": statistics.median(run["wall_seconds"] for run in mine),
            }
        )
    if options.json:
        print(json.dumps({"workers": options.workers, "federations": rows}))
        return
    for row in rows:
        print(
            f"{row['clients']:>6} clients: {row['seconds_a_round']:.3f} s a round, "
            f"peak {row['peak_memory_mib']:.0f} MiB, {row['wall_seconds']:.1f} s in all"
        )


if __name__ == "__main__":
    main()
