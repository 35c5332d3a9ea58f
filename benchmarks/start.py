"""How long 100,000 clients with 8 clips each take to start, and in how much memory.

A start is a fresh process of `fnl run` up to the line `round 0/1`: the configuration is checked,
features and partitioning are opened, nodes asked who they are, noise planned, worker processes
ready, the run directory written and the first model evaluated. What a first run computes and keeps
for later ones, features and partitioning, is there. Memory is the sum of proportional set sizes
(PSS) of the process and its workers up to the end of a round of 50 candidates.

The corpus has the same 512 synthetic clips over and over: nobody looks at accuracy here, and
features of so many different clips would take hours. They are written into a cache of their own.

    fnl bench start [--clients 100000] [--workers 2] [--repeats 3] [--json]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from benchmarks.processes import FNL, settings
from benchmarks.scale import memory_bytes
from fnl.cli.terminal import Json
from fnl.config import Config, DataGroup, Scalar, parse_config
from fnl.data.corpus import TEST, TRAIN, VALIDATION
from fnl.data.extraction import copy_rows
from fnl.data.features import FeatureSpec
from fnl.data.federated import cache_dir, prepare
from fnl.data.store import build_features, cache_key
from fnl.data.synthetic import SyntheticCorpus
from fnl.data.words import CORE_WORDS
from fnl.errors import RunError

CLIPS_PER_CLIENT = 8
HELD_OUT_SPEAKERS = 1_250
"""Of validation, and as many of testing: 10,000 clips each, as in Speech Commands."""

DIFFERENT_CLIPS = 512


@dataclass(frozen=True)
class Echoes:
    """A corpus of any size, for its size alone; a `fnl.data.corpus.Corpus`."""

    labels: tuple[str, ...]
    clips: pl.DataFrame = field(repr=False)
    fingerprint: str
    name: str = "echoes"
    synthetic: bool = True

    def waveform(self, row: int) -> NDArray[np.float32]:
        """Return float32 [16000]: one of `DIFFERENT_CLIPS`."""
        return _few().waveform(row % DIFFERENT_CLIPS)


def _few() -> SyntheticCorpus:
    return SyntheticCorpus.create(CORE_WORDS, speakers=52, clips_per_word=1, seed=0)


def echoes(data: DataGroup) -> Echoes:
    """Return a corpus of which `data.speakers` train, with `CLIPS_PER_CLIENT` clips each."""
    speakers = pl.concat(
        pl.DataFrame({"split": [split] * count})
        for split, count in (
            (TRAIN, data.speakers),
            (VALIDATION, HELD_OUT_SPEAKERS),
            (TEST, HELD_OUT_SPEAKERS),
        )
    ).with_row_index("number")
    number = pl.format("{}", pl.col("number")).str.zfill(7)
    clips = speakers.join(pl.DataFrame({"nth": range(CLIPS_PER_CLIENT)}), how="cross").select(
        clip=pl.format("{}_{}", number, "nth"),
        label=((pl.col("number") + pl.col("nth")) % len(CORE_WORDS)).cast(pl.Int32),
        speaker=number,
        split=pl.col("split"),
    )
    return Echoes(CORE_WORDS, clips.sort("clip"), f"echoes-1-{data.speakers}")


def write_features_of(config: Config) -> None:
    """Put the features of the corpus where a run looks for them, each copied from a clip's."""
    data = config.data
    corpus, spec, cache = echoes(data), FeatureSpec.of(data), cache_dir(data)
    path = cache / "features" / cache_key(corpus, spec, data.on_bad_audio)
    if path.exists():
        return
    few = build_features(_few(), spec, cache)
    building = path.with_name(f"{path.name}.copying")
    building.mkdir()
    copy_rows(
        few.path / "features.npy",
        building / "features.npy",
        np.arange(corpus.clips.height) % DIFFERENT_CLIPS,
    )
    corpus.clips.write_parquet(building / "clips.parquet")
    meta = json.loads((few.path / "meta.json").read_text(encoding="utf-8"))
    meta |= {"key": path.name, "corpus": corpus.name, "fingerprint": corpus.fingerprint}
    (building / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    building.rename(path)


def federation(clients: int, results: str, cache: Path) -> dict[str, Scalar]:
    """Return the configuration: the default one, but for its size."""
    flat: dict[str, Scalar] = {
        "data.cache-dir": str(cache),
        "data.corpus": "benchmarks.start:echoes",
        "data.speakers": clients,
        "data.clients": clients,
        "training.batch-size": 8,
        "coordination.candidates": 50,
        "coordination.selected": 25,
        "run.rounds": 1,
        "run.results-dir": results,
    }
    return flat


def measure(clients: int, workers: int, cache: Path) -> tuple[float, float]:
    """Start one run; returns seconds to its start and the peak of its memory in MiB."""
    with tempfile.TemporaryDirectory() as results:
        command = [
            *FNL,
            "run",
            f"--workers={workers}",
            *settings(federation(clients, results, cache)),
        ]
        launched, started, peak = time.perf_counter(), 0.0, 0
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            lines: list[tuple[float, str]] = []

            def read() -> None:
                for line in process.stderr or ():
                    lines.append((time.perf_counter(), line))

            reader = threading.Thread(target=read)
            reader.start()
            while process.poll() is None:
                peak = max(peak, memory_bytes(process.pid))
                time.sleep(0.05)
            reader.join()
        started = next((when for when, line in lines if "round 0/1" in line), 0.0)
        if process.returncode or not started:
            raise RunError(f"the run with {clients} clients failed: {lines[-1:]}")
    return started - launched, peak / 2**20


def main(
    clients: Annotated[int, typer.Option(min=50)] = 100_000,
    workers: int = 2,
    repeats: int = 3,
    as_json: Json = False,
) -> None:
    """Print the medians, or one JSON object."""
    cache = cache_dir(DataGroup()) / "bench-start"  # gigabytes: they stay for the next time
    config = parse_config(federation(clients, "unused", cache))
    write_features_of(config)
    prepare(config)
    runs = [measure(clients, workers, cache) for _ in range(repeats)]
    found = {
        "clients": clients,
        "workers": workers,
        "seconds_to_start": statistics.median(seconds for seconds, _ in runs),
        "peak_memory_mib": max(memory for _, memory in runs),
    }
    if as_json:
        print(json.dumps(found))
        return
    print(
        f"{clients:,} clients, {workers} workers: {found['seconds_to_start']:.1f} s to start, "
        f"peak {found['peak_memory_mib']:.0f} MiB"
    )
