"""A long run in one process: does memory, open files or time a round grow?

`fnl bench soak --rounds 1000`. The federation is small and its rounds quick, so that
what is kept or rewritten from round to round shows against them. Printed: resident memory fitted
over the second half of the rounds, open files at the start and the end, the median time of a round
in the first and in the last hundred, and the bytes of the run directory.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from flwr.app import Message

from benchmarks.processes import round_seconds, run_here
from fnl.config import parse_config
from fnl.data.federated import prepare

SMALL = {
    "run.checkpoint-every": 10,
    "run.name": "soak",
    "data.speakers": 10,
    "data.clips-per-word": 2,
    "data.clients": 10,
    "data.partitioner": "iid",
    "data.mel-bins": 8,
    "data.frame-hop-ms": 100,
    "model.hidden": "6",
    "training.batch-size": 8,
    "training.local-epochs": 0.5,
    "coordination.candidates": 4,
    "coordination.selected": 2,
}
"""The smallest federation: ten clients of sixteen clips, a network of six neurons."""


class _Watch:
    """Notes memory and open files of this process at every reply of a training round."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.files: list[int] = []

    def __call__(self, reply: Message) -> None:
        if reply.metadata.message_type == "train":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
            self.files.append(len(os.listdir("/proc/self/fd")))


def main(rounds: int = 1000) -> None:
    """Print memory, open files and time over many rounds."""
    with tempfile.TemporaryDirectory(prefix="fnl-soak-") as results:
        config = parse_config(SMALL | {"run.rounds": rounds, "run.results-dir": results})
        prepare(config, workers=1)
        watch = _Watch()
        run_here(config, watch)
        path = Path(results) / "soak"
        seconds = np.array(round_seconds(path)[1:])
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    _print(rounds, watch, seconds, size)


def _print(rounds: int, watch: _Watch, seconds: np.ndarray, size: int) -> None:
    memory = np.array(watch.memory) / 1e6
    half = len(memory) // 2
    per_reply = np.polyfit(np.arange(len(memory) - half), memory[half:], 1)[0]
    slope = per_reply * len(memory) / rounds
    part = min(100, rounds // 2)
    first, last = np.median(seconds[:part]), np.median(seconds[-part:])
    print(f"rounds {rounds}, {seconds.sum():.0f} s, run directory {size / 1e6:.2f} MB")
    print(f"memory {memory[half]:.1f} MB half-way, {memory[-1]:.1f} MB at the end")
    print(f"memory grows by {slope * 1e3:.2f} kB a round over the second half")
    print(
        f"open files {watch.files[0]} at first, {watch.files[-1]} at last, most {max(watch.files)}"
    )
    print(
        f"round {first * 1e3:.1f} ms in the first {part}, {last * 1e3:.1f} ms in the last (median)"
    )
