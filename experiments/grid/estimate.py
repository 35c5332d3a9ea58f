"""How long a grid will take and how much memory, from what its runs have taken so far.

A run is rounds of `coordination.candidates` clients that train one after the other, plus what the
server does in a round, which is mostly evaluation. Both times are measured: on cells of the same
directory that are finished, else on one round of two candidates of the first cell. A client's time
is taken as proportional to `training.local-epochs`, to 1 / `data.clients`, and as doubled by a
shadow; other networks and corpora within one grid are not told apart. Cells that run side by side
share caches and memory bandwidth, which a calibration by itself does not see.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.grid.directory import record_of, taken
from fnl.config import Config

MOST_MEASURED = 50
"""Finished cells that are looked at."""


@dataclass(frozen=True)
class Cost:
    """What a run took, or cells are expected to take.

    Attributes:
        client_seconds: of one candidate's round, for one local epoch over the whole corpus'
            clips, without a shadow.
        server_seconds: of a round beside its candidates, evaluation included.
        peak_bytes: the most memory its process held; 0: not known.
        source: what it rests on, for people.
    """

    client_seconds: float
    server_seconds: float
    peak_bytes: int
    source: str = ""

    def seconds(self, config: Config) -> float:
        """Return how long one cell is expected to take on one core."""
        client = self.client_seconds * _work(config)
        return config.run.rounds * (
            config.coordination.candidates * client + self.server_seconds / config.evaluation.every
        )


def measure_run(path: Path, config: Config, peak_bytes: int, source: str = "") -> Cost:
    """Return what the run in `path` took.

    Raises:
        OSError, polars.exceptions.PolarsError, ValueError: if its tables do not tell.
    """
    clients = pl.read_parquet(path / "clients.parquet", columns=["round", "seconds"], glob=False)
    rounds = pl.read_parquet(path / "rounds.parquet", columns=["round", "seconds"], glob=False)
    trained = rounds.filter(pl.col("round") > 0)
    if clients.is_empty() or trained.is_empty():
        raise ValueError("no round was trained")
    each = clients["seconds"].to_numpy()
    server = (trained["seconds"].to_numpy().sum() - each.sum()) / trained.height
    # a process' first client also compiles kernels
    client = float(each.min() if len(each) <= 2 else each.mean())
    beside = max(float(server), 0.0) * config.evaluation.every
    return Cost(client / _work(config), beside, peak_bytes, source)


def cost_of_cells(cells: Path, configs: Mapping[str, Config]) -> Cost | None:
    """Return the mean cost of finished cells; None if none of them tells.

    Args:
        cells: the folder of their run directories.
        configs: cell id -> configuration of finished cells.
    """
    known = []
    for cell in list(configs)[:MOST_MEASURED]:
        with suppress(OSError, ValueError, pl.exceptions.PolarsError):
            peak = int(taken(record_of(cells / cell), "peak_bytes") or 0)
            known.append(measure_run(cells / cell, configs[cell], peak))
    if not known:
        return None
    return Cost(
        client_seconds=statistics.mean(one.client_seconds for one in known),
        server_seconds=statistics.mean(one.server_seconds for one in known),
        peak_bytes=max(one.peak_bytes for one in known),
        source=f"{len(known)} finished cells",
    )


def available_memory_bytes() -> int:
    """Return the memory that processes of this machine can still take; 0: not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        (kib,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def in_words(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _work(config: Config) -> float:
    shadows = 2 if config.is_private and config.evaluation.shadow else 1
    training = config.training
    passes = training.views * (training.steps or training.local_epochs)
    return passes * shadows / config.data.clients
