"""Seconds and peak memory of the tables of a grid of many finished runs.

The runs are written here, with random numbers in place of results: 10,000 of 30 rounds by default,
1,000 settings by ten seeds. What is measured is `fnl grid tables` in a fresh process.

    fnl bench grid-tables [--settings 1000] [--seeds 10] [--rounds 30]
"""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.processes import fnl
from experiments.grid.cells import KnownCell
from experiments.grid.directory import GridDirectory, Manifest
from fnl.runtime.run_directory import FINISHED
from fnl.runtime.tables import ROUNDS


def write_runs(path: Path, settings: int, seeds: int, rounds: int) -> GridDirectory:
    """Fill a grid's directory with finished runs, each with its non-private twin of its seed."""
    directory = GridDirectory(path)
    directory.cells.mkdir(parents=True)
    generator = np.random.default_rng(0)
    cells = [
        KnownCell(
            id=f"cell-{setting}-{seed}",
            seed=seed,
            values={"privacy.epsilon": float(setting) or None, "run.seed": seed},
            is_twin=setting == 0,
            twin=None if setting == 0 else f"cell-0-{seed}",
        )
        for setting in range(settings)
        for seed in range(seeds)
    ]
    for cell in cells:
        run = directory.cells / cell.id
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"status": FINISHED, "seconds": 1.0}))
        columns = {name: generator.random(rounds + 1) for name in ROUNDS if name != "round"}
        table = pl.DataFrame({"round": np.arange(rounds + 1), **columns})
        table.cast(pl.Schema(ROUNDS), strict=False).write_parquet(run / "rounds.parquet")  # pyright: ignore[reportArgumentType] a schema is a mapping
    manifest = Manifest("many", ("privacy.epsilon", "run.seed"), {}, tuple(cells), "", {})
    directory.write(manifest)
    return directory


def main(settings: int = 1000, seeds: int = 10, rounds: int = 30) -> None:
    """Print what the tables took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many"
        directory = write_runs(path, settings, seeds, rounds)
        seconds = fnl("grid", "tables", str(directory.path))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        rows = (
            pl.scan_parquet(directory.path / "results.parquet", glob=False)
            .select(pl.len())
            .collect()
            .item()
        )
    print(f"{settings * seeds} runs, {rows} values: {seconds:.1f} s, peak {peak:.0f} MiB")
