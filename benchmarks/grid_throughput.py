"""Seconds a cell of a grid against the same cells through `flwr run`, one by one.

A grid of small cells (10 clients, 5 rounds) is run by `fnl grid run`; of the same cells the first
few are run by Flower's own engine, each with the SuperLink that it starts. The overhead of a cell
is the time that is not in its rounds: wall time less the rounds' (a grid's rounds run side by
side, so divided by its workers), over the number of cells, start and end of the program included.

Busy is the share of the cores' time, from the first cell's start to the last one's end, in which
workers were at a cell; of it, computing is the share of processor seconds, which other work on
the machine takes away.

    fnl bench grid-throughput [--cells 60] [--flower 3] [--workers 2] [--json]
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from benchmarks.processes import fnl, round_seconds, settings
from fnl.cli.terminal import Json
from fnl.runtime.run_record import read_run

CELL = {
    "run.rounds": 5,
    "data.speakers": 40,
    "data.clips-per-word": 2,
    "data.clients": 10,
    "coordination.candidates": 5,
    "coordination.selected": 3,
}


def run_grid(cells: int, workers: int) -> dict[str, float]:
    """Run the grid once and return what it took, a cell."""
    base = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in CELL.items())
    with tempfile.TemporaryDirectory() as results:
        file = Path(results) / "cells.toml"
        seeds = list(range(cells))
        file.write_text(f'name = "cells"\n[base]\n{base}\n[axes]\nrun.seed = {seeds}\n')
        options = [f"--results-dir={results}", f"--workers={workers}"]
        wall = fnl("grid", "run", str(file), *options)
        grid = Path(results) / "cells"
        in_rounds = sum(sum(round_seconds(run)) for run in (grid / "cells").iterdir())
        took = pl.DataFrame([read_run(run)["worker"] for run in (grid / "cells").iterdir()])
    ended = took["started"] + took["seconds"]
    cores_time = workers * (ended.to_numpy().max() - took["started"].to_numpy().min())
    return {
        "seconds_a_cell": wall / cells,
        "overhead_a_cell": (wall - in_rounds / workers) / cells,
        "busy": took["seconds"].sum() / cores_time,
        "computing": took["cpu_seconds"].sum() / cores_time,
    }


def run_flower(cell: int) -> dict[str, float]:
    """Run one of the cells by Flower's engine and return what it took."""
    with tempfile.TemporaryDirectory() as results:
        flat = {**CELL, "run.seed": cell, "run.results-dir": results}
        wall = fnl("run", "--engine=flower", *settings(flat))
        (run,) = Path(results).iterdir()
        return {"seconds_a_cell": wall, "overhead_a_cell": wall - sum(round_seconds(run))}


def main(
    cells: int = 60,
    flower: Annotated[int, typer.Option(help="Cells that Flower also runs.")] = 3,
    workers: int = os.cpu_count() or 1,
    as_json: Json = False,
) -> None:
    """Print both ways and their ratio."""
    fnl("data", "prepare", *settings(CELL))
    grid = run_grid(cells, workers)
    peers = [run_flower(cell) for cell in range(flower)]
    found: dict[str, object] = {"workers": workers, "grid": grid}
    lines = [
        f"grid: {grid['seconds_a_cell']:.2f} s a cell, {grid['overhead_a_cell']:.2f} s of it "
        f"overhead; cores {grid['busy']:.1%} busy, {grid['computing']:.1%} computing"
    ]
    if peers:
        medians = {key: statistics.median(run[key] for run in peers) for key in peers[0]}
        ratio = medians["overhead_a_cell"] / grid["overhead_a_cell"]
        found |= {"flower": medians, "overhead_ratio": ratio}
        lines.append(
            f"flwr run: {medians['seconds_a_cell']:.1f} s a cell, "
            f"{medians['overhead_a_cell']:.1f} s of it overhead: {ratio:.0f} times the grid's"
        )
    print(json.dumps(found) if as_json else "\n".join(lines))
