"""How long a grid will take and how much memory, from what its runs have taken so far.

A run is what is done once (its data opened, its directory written, the first model evaluated, the
last one saved) and rounds: `coordination.candidates` clients that train one after the other, and
what the server does beside them, which is mostly evaluation. All are measured for each kind of run:
on cells of the same directory that are finished, else by probes (`experiments.grid.probe`) that run
side by side as cells do, and so share caches and memory bandwidth as cells do.
"""

from __future__ import annotations

import heapq
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl

from experiments.grid.directory import record_of, taken
from fnl.config import Config, Scalar

MOST_MEASURED = 50
"""Finished cells of a kind that are looked at."""

DECIDING: tuple[str, ...] = (
    "run.device", "run.batched-clients",
    "data.corpus", "data.words", "data.speakers", "data.clips-per-word", "data.clients",
    "data.partitioner", "data.features", "data.mel-bins", "data.frame-hop-ms",
    "model.network", "model.hidden", "model.kernel-size", "model.neuron", "model.normalisation",
    "model.encoding", "model.activation",
    "training.trained", "training.optimizer", "training.batch-size", "training.local-epochs",
    "training.steps", "training.views", "training.augmentation",
    "privacy.mode", "privacy.unit", "privacy.noise", "privacy.clipping", "privacy.clipping-method",
    "privacy.rate-release", "privacy.secure-noise",
    "coordination.algorithm",
    "evaluation.split", "evaluation.shadow", "evaluation.floor", "evaluation.sensitivity",
)  # fmt: skip
"""Keys that decide how long a client's round takes; others hardly count."""

Kind = tuple[Scalar, ...]
"""Values of `DECIDING`: runs of a kind take as long for a client and a round."""


def kind_of(config: Config) -> Kind:
    """Return of which kind a run is."""
    flat = config.flat()
    return tuple(flat[key] for key in DECIDING)


def kinds_in_words(kinds: Sequence[Kind]) -> dict[Kind, str]:
    """Return what each kind is: network, device and privacy, and whatever else differs."""
    always = ("model.network", "model.hidden", "run.device", "privacy.mode")
    differ = [key for key, values in zip(DECIDING, zip(*kinds, strict=True), strict=True)
              if key not in always and len(set(values)) > 1]  # fmt: skip
    words: dict[Kind, str] = {}
    for kind in kinds:
        of = dict(zip(DECIDING, kind, strict=True))
        network, hidden, device, mode = (of[key] for key in always)
        privacy = "without privacy" if mode == "none" else f"privacy.mode {mode}"
        others = [f"{key} {of[key]}" for key in differ]
        words[kind] = ", ".join([f"{network} {hidden} on {device}", privacy, *others])
    return words


@dataclass(frozen=True)
class Cost:
    """What a run took, or cells are expected to take, on one core beside others.

    Attributes:
        once_seconds: before its first round and after its last.
        client_seconds: of one candidate's round, for a unit of `work`.
        server_seconds: of a round beside its candidates, evaluation included.
        peak_bytes: the most memory its process held; 0: not known.
    """

    once_seconds: float
    client_seconds: float
    server_seconds: float
    peak_bytes: int

    def seconds(self, config: Config) -> float:
        """Return how long one cell is expected to take."""
        clients = config.coordination.candidates * self.client_seconds * work(config)
        beside = self.server_seconds / config.evaluation.every
        return self.once_seconds + config.run.rounds * (clients + beside)


@dataclass(frozen=True)
class Costs:
    """What cells are expected to take, by their kind.

    Attributes:
        of_kind: of the kinds that were measured, at least one.
        source: what it rests on, for people.
    """

    of_kind: Mapping[Kind, Cost]
    source: str

    def seconds(self, config: Config) -> float:
        """Return how long a cell takes: by its kind, else by what is most like it."""
        return self.like(kind_of(config)).seconds(config)

    def like(self, kind: Kind) -> Cost:
        """Return the cost of the kind that shares most keys with `kind`."""
        closest = max(
            self.of_kind, key=lambda known: sum(a == b for a, b in zip(known, kind, strict=True))
        )
        return self.of_kind[closest]

    @property
    def peak_bytes(self) -> int:
        """The most memory that a process held; 0: not known."""
        return max(cost.peak_bytes for cost in self.of_kind.values())


Probes = Callable[[Sequence[Config], int], Iterable[tuple[Config, Cost]]]
"""Measures cells by their first rounds, so many at a time; one that fails is left out."""


def expected_costs(
    configs: Sequence[Config],
    finished: Mapping[Kind, Sequence[Cost]],
    cores: int,
    most: int,
    probes: Probes,
) -> Costs | None:
    """Return what cells are expected to take; None where nothing tells.

    Args:
        configs: of the cells.
        finished: what finished cells took, by their kind.
        cores: cells that will run side by side.
        most: other kinds that are probed.
        probes: measures them.
    """
    found = {kind: list(costs) for kind, costs in finished.items()}
    known, probed = sum(map(len, found.values())), 0
    chosen = to_probe(configs, found, most)
    at_once = min(cores, len(configs))  # cells, and so probes: they slow each other down
    chosen += chosen[:1] * (at_once - len(chosen))
    for config, cost in probes(chosen, cores):
        found.setdefault(kind_of(config), []).append(cost)
        probed += 1
    sources = {"finished cells": known, "probes of the first rounds": probed}
    source = " and ".join(f"{count} {name}" for name, count in sources.items() if count)
    means = {kind: mean_cost(costs) for kind, costs in found.items()}
    return Costs(means, source) if means else None


def said_of_costs(
    expected: Costs | None, configs: Sequence[Config], cores: int, *, beside: float = 0.0
) -> str:
    """Return lines on how long cells will take, each kind of them, and `beside` them in seconds."""
    many = f"{len(configs)} cells to run on {cores} cores"
    if expected is None:
        return many
    of_kind: dict[Kind, list[float]] = {}
    for config in configs:
        of_kind.setdefault(kind_of(config), []).append(expected.seconds(config))
    seconds = beside + makespan(chain.from_iterable(of_kind.values()), cores)
    memory, free = expected.peak_bytes * cores, available_memory_bytes()
    words = kinds_in_words(list(of_kind))
    lines = [
        f"{many}: about {in_words(seconds)} and {memory / 2**30:.1f} GiB of memory, "
        f"from {expected.source}"
    ]
    for kind, each in sorted(of_kind.items(), key=lambda one: -sum(one[1])):
        lines.append(f"  {words[kind]}: {len(each)} cells of {in_words(sum(each) / len(each))}")
    if memory > free > 0:
        lines.append(f"only {free / 2**30:.1f} GiB of memory are free: give fewer --workers")
    return "\n".join(lines)


def measure_run(path: Path, config: Config, seconds: float, peak_bytes: int) -> Cost:
    """Return what the run in `path` took, `seconds` in all.

    Raises:
        OSError, polars.exceptions.PolarsError, ValueError: if its tables do not tell.
    """
    clients = pl.read_parquet(path / "clients.parquet", columns=["round", "seconds"], glob=False)
    rounds = pl.read_parquet(path / "rounds.parquet", columns=["round", "seconds"], glob=False)
    trained = rounds.filter(pl.col("round") > 0)
    if clients.is_empty() or trained.is_empty():
        raise ValueError("no round was trained")
    each, in_rounds = clients["seconds"].to_numpy(), float(trained["seconds"].sum())
    server = max(in_rounds - float(each.sum()), 0.0) / trained.height
    return Cost(
        once_seconds=max(seconds - in_rounds, 0.0),
        client_seconds=float(each.mean()) / work(config),
        server_seconds=server * config.evaluation.every,
        peak_bytes=peak_bytes,
    )


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Return the mean of several, with the most memory of any."""
    return Cost(
        once_seconds=statistics.mean(one.once_seconds for one in costs),
        client_seconds=statistics.mean(one.client_seconds for one in costs),
        server_seconds=statistics.mean(one.server_seconds for one in costs),
        peak_bytes=max(one.peak_bytes for one in costs),
    )


def costs_of_cells(cells: Path, configs: Mapping[str, Config]) -> dict[Kind, list[Cost]]:
    """Return what finished cells took, by their kind; empty if none of them tells.

    Args:
        cells: the folder of their run directories.
        configs: cell id -> configuration of finished cells.
    """
    found: dict[Kind, list[Cost]] = {}
    for cell, config in configs.items():
        known = found.setdefault(kind_of(config), [])
        if len(known) >= MOST_MEASURED:
            continue
        with suppress(OSError, ValueError, pl.exceptions.PolarsError):
            record = record_of(cells / cell)
            seconds, peak = taken(record, "seconds"), taken(record, "peak_bytes")
            known.append(measure_run(cells / cell, config, seconds or 0.0, int(peak or 0)))
    return {kind: known for kind, known in found.items() if known}


def to_probe(configs: Iterable[Config], known: Mapping[Kind, object], most: int) -> list[Config]:
    """Return one cell of each kind that is not `known`, of those with most to do first."""
    asked: Counter[Kind] = Counter()
    cells: dict[Kind, Config] = {}
    for config in configs:
        kind = kind_of(config)
        if kind in known:
            continue
        cells.setdefault(kind, config)
        clients = config.run.rounds * config.coordination.candidates
        asked[kind] += round(1e6 * clients * work(config))
    return [cells[kind] for kind, _ in asked.most_common(most)]


def makespan(seconds: Iterable[float], cores: int) -> float:
    """Return how long cells take on `cores`, each beginning the longest cell that is left."""
    free = [0.0] * cores
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + one)
    return max(free)


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
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def work(config: Config) -> float:
    """Return the passes over the corpus' clips that a client's round makes, times 1 / N."""
    evaluation, training = config.evaluation, config.training
    trained = 1 + evaluation.floor + (config.is_private and evaluation.shadow)
    passes = training.views * (training.steps or training.local_epochs)
    return passes * trained / config.data.clients
