"""Seconds a cell of a grid against the same cells through `flwr run`, one by one.

A grid of small cells (10 clients, 5 rounds) is run by `fnl grid run`; of the same cells the first
few are run by Flower's own engine, each with the SuperLink that it starts. The overhead of a cell
is the time that is not in its rounds: wall time less the rounds' (a grid's rounds run side by
side, so divided by its workers), over the number of cells, start and end of the program included.

Busy is the share of the cores' time, from the first cell's start to the last one's end, in which
workers were at a cell; of it, computing is the share of processor seconds, which other work on
the machine takes away.

    python benchmarks/grid_throughput.py [--cells 60] [--flower 3] [--workers 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

FNL = [sys.executable, "-m", "fnl.cli.main"]
CELL = {
    "run.rounds": 5,
    "data.speakers": 40,
    "data.clips-per-word": 2,
    "data.clients": 10,
    "coordination.candidates": 5,
    "coordination.selected": 3,
}


def round_seconds(run: Path) -> float:
    """Return the wall time of a run's rounds."""
    return float(pl.read_parquet(run / "rounds.parquet")["seconds"].sum())


def run_grid(cells: int, workers: int) -> dict[str, float]:
    """Run the grid once and return what it took, a cell."""
    base = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in CELL.items())
    with tempfile.TemporaryDirectory() as results:
        file = Path(results) / "cells.toml"
        seeds = list(range(cells))
        file.write_text(f'name = "cells"\n[base]\n{base}\n[axes]\nrun.seed = {seeds}\n')
        command = [*FNL, "grid", "run", str(file), "--results-dir", results]
        started = time.perf_counter()
        subprocess.run([*command, f"--workers={workers}"], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        grid = Path(results) / "cells"
        in_rounds = sum(round_seconds(run) for run in (grid / "cells").iterdir())
        journal = pl.read_ndjson(grid / "journal.jsonl")
    ended = journal["started"] + journal["seconds"]
    cores_time = workers * (ended.to_numpy().max() - journal["started"].to_numpy().min())
    return {
        "seconds_a_cell": wall / cells,
        "overhead_a_cell": (wall - in_rounds / workers) / cells,
        "busy": journal["seconds"].sum() / cores_time,
        "computing": journal["cpu_seconds"].sum() / cores_time,
    }


def run_flower(cell: int) -> dict[str, float]:
    """Run one of the cells by Flower's engine and return what it took."""
    with tempfile.TemporaryDirectory() as results:
        settings = {**CELL, "run.seed": cell, "run.results-dir": results}
        command = [*FNL, "run", "--engine", "flower"]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        (run,) = Path(results).iterdir()
        return {"seconds_a_cell": wall, "overhead_a_cell": wall - round_seconds(run)}


def main() -> None:
    """Print both ways and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--flower", type=int, default=3, help="cells that Flower also runs")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare = [f"--set={key}={value}" for key, value in CELL.items()]
    subprocess.run([*FNL, "data", "prepare", *prepare], check=True, stdout=subprocess.DEVNULL)
    grid = run_grid(options.cells, options.workers)
    flower = [run_flower(cell) for cell in range(options.flower)]
    found: dict[str, object] = {"workers": options.workers, "grid": grid}
    lines = [
        f"grid: {grid['seconds_a_cell']:.2f} s a cell, {grid['overhead_a_cell']:.2f} s of it "
        f"overhead; cores {grid['busy']:.1%} busy, {grid['computing']:.1%} computing"
    ]
    if flower:
        medians = {key: statistics.median(run[key] for run in flower) for key in flower[0]}
        ratio = medians["overhead_a_cell"] / grid["overhead_a_cell"]
        found |= {"flower": medians, "overhead_ratio": ratio}
        lines.append(
            f"flwr run: {medians['seconds_a_cell']:.1f} s a cell, "
            f"{medians['overhead_a_cell']:.1f} s of it overhead: {ratio:.0f} times the grid's"
        )
    print(json.dumps(found) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
