"""A grid's directory, written from real or made-up runs: what figures and reports read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

from experiments.grid.cells import KnownCell
from experiments.grid.directory import GridDirectory, Manifest
from experiments.grid.summary import SEED, summarise
from experiments.grid.tables import cell_table, last_values, result_table

AXES = {"privacy.epsilon": [1.0, 8.0], "privacy.clip-norm": [0.5, 4.0]}

MakeRun = Callable[[Path, Mapping[str, object]], object]
"""Makes the run of this directory with these settings."""


def write_grid(
    directory: Path,
    make_run: MakeRun,
    *,
    axes: Mapping[str, list] = AXES,
    seeds: tuple[int, ...] = (0, 1, 2),
    twins: bool = True,
) -> Path:
    """Make the cells' runs and write the tables that a grid has of them; they have no digests."""
    cells = []
    for seed in seeds:
        twin = f"twin-{seed}" if twins else None
        if twin:
            values = dict.fromkeys(axes) | {SEED: seed}
            cells.append(KnownCell(twin, seed, values, is_twin=True, twin=None))
        for number, varied in enumerate(product(*axes.values())):
            values = dict(zip(axes, varied, strict=True)) | {SEED: seed}
            cells.append(KnownCell(f"c{number}-{seed}", seed, values, is_twin=False, twin=twin))
    for cell in cells:
        settings = {key: value for key, value in cell.values.items() if value is not None}
        settings |= {"privacy.mode": "none", "evaluation.shadow": False} if cell.is_twin else {}
        make_run(directory / "cells" / cell.id, settings)
    grid, manifest = (
        GridDirectory(directory),
        Manifest("g", (*axes, SEED), {}, tuple(cells), "", {}),
    )
    table = cell_table(grid, manifest)
    results = result_table(grid, table)
    table.write_parquet(directory / "cells.parquet")
    results.sink_parquet(directory / "results.parquet")
    summary = summarise(table, last_values(results), manifest)
    summary.write_parquet(directory / "summary.parquet")
    return directory
