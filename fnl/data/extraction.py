"""Computing the features of a whole corpus into one file, in parallel.

Workers write their rows straight into the file, so that nobody ever holds more than one chunk.
They write by `write`, not through a memory map: a full disk is then an error, not a SIGBUS.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import torch

from fnl.data.corpus import CLIP_SAMPLES, ClipError, Corpus
from fnl.data.event_corpus import EventCorpus
from fnl.data.event_features import EventSpec
from fnl.data.features import FeatureSpec, extract
from fnl.data.processes import each
from fnl.errors import ConfigError, CorpusError, one_line

STORED = np.dtype("<f2")
"""Type of the stored features: half precision, little-endian."""

CHUNK_ROWS = 256

START_SECONDS = 6.0
"""What it takes to start workers, most of it `import torch`: below that, none are started."""

Report = Callable[[int, int], None]
"""Called with the number of clips done and of all clips."""


Chunk = tuple[int, int]
"""Rows of the corpus: the first, and the one after the last."""


class BadClip(NamedTuple):
    """A row of the corpus that cannot be used, and why. Its features are zeros."""

    row: int
    reason: str


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know: sent to it once."""

    corpus: Corpus | EventCorpus
    spec: FeatureSpec | EventSpec
    path: Path
    data_offset: int

    def run(self, chunk: Chunk) -> list[BadClip]:
        """Compute and write the features of rows `start` to `stop`."""
        start, stop = chunk
        bad: list[BadClip] = []
        of_clip = self.spec.shape if isinstance(self.spec, EventSpec) else (CLIP_SAMPLES,)
        read = np.zeros((stop - start, *of_clip), np.float32)
        for row in range(start, stop):
            try:
                read[row - start] = self._read(row)
            except (CorpusError, MemoryError):
                raise
            except ClipError as error:
                bad.append(BadClip(row, one_line(error)))
            except Exception as error:  # a decoder's or an own corpus': named, or skipped if asked
                bad.append(BadClip(row, f"{type(error).__name__}: {one_line(error)}"))
        made = (
            read
            if isinstance(self.spec, EventSpec)
            else extract(torch.from_numpy(read), self.spec).numpy()
        )
        features = made.astype(STORED)
        with self.path.open("r+b") as file:
            file.seek(self.data_offset + start * features[0].nbytes)
            file.write(features.tobytes())
        return bad

    def _read(self, row: int) -> np.ndarray:
        """Return what is read of a clip: events as features, or its waveform."""
        if isinstance(self.corpus, EventCorpus):
            return self.corpus.features(row, cast("EventSpec", self.spec))
        waveform = self.corpus.waveform(row)
        if waveform.shape != (CLIP_SAMPLES,) or waveform.dtype != np.float32:
            raise CorpusError(
                f"corpus {self.corpus.name!r} returned {waveform.dtype} {list(waveform.shape)} "
                f"for row {row}: waveforms are float32 [{CLIP_SAMPLES}]"
            )
        if not np.isfinite(waveform).all():
            raise ClipError("NaN or infinite samples")
        return waveform


def write_features(
    corpus: Corpus | EventCorpus,
    spec: FeatureSpec | EventSpec,
    path: Path,
    *,
    workers: int = 0,
    report: Report | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> list[BadClip]:
    """Write the features of every clip to a new `.npy` file: float16 [n, T, F].

    The file is the same, bit for bit, for any number of workers and any chunk.

    Args:
        corpus: sent to the workers once, by pickle.
        spec: the features.
        path: where the file goes.
        workers: processes; 0: all cores, but no more than pay off; 1: none but this one.
        report: called after every chunk.
        chunk_rows: clips that a worker holds at a time.

    Returns:
        The clips that could not be used, by row.

    Raises:
        ConfigError: if `workers` is negative.
        CorpusError: if the corpus breaks its contract.
        RunError: if a worker dies.
        OSError: if the file cannot be written.
    """
    rows = corpus.clips.height
    with path.open("wb") as file:
        _write_header(file, (rows, *spec.shape))
        job = _Job(corpus, spec, path, file.tell())
    chunks = [(start, min(start + chunk_rows, rows)) for start in range(0, rows, chunk_rows)]
    bad, done = [], 0
    with closing(_run(job, chunks, workers)) as results:  # stops the workers on any error here
        for (start, stop), found in results:
            bad += found
            done += stop - start
            if report is not None:
                report(done, rows)
    return sorted(bad)


def copy_rows(source: Path, target: Path, rows: np.ndarray) -> None:
    """Write some rows of a `.npy` file to a new one, one chunk at a time.

    Raises:
        OSError: if the file cannot be written.
    """
    features = np.load(source, mmap_mode="r")
    with target.open("wb") as file:
        _write_header(file, (len(rows), *features.shape[1:]))
        for start in range(0, len(rows), CHUNK_ROWS):
            file.write(features[rows[start : start + CHUNK_ROWS]].tobytes())


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": STORED.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _run(
    job: _Job, chunks: list[Chunk], workers: int
) -> Generator[tuple[Chunk, list[BadClip]], None, None]:
    """Run chunks in as many processes as asked; if not asked, in as many as pay off."""
    if workers < 0:
        raise ConfigError(f"workers = {workers}: give a number of processes, or 0 for all cores")
    if multiprocessing.current_process().daemon:  # which may have no children
        workers = 1
    if workers == 0:
        started = time.perf_counter()
        yield from each(job.run, chunks[:1], processes=1)
        chunks = chunks[1:]
        expected_seconds = (time.perf_counter() - started) * len(chunks)
        workers = cores()
        if expected_seconds * (1 - 1 / workers) < START_SECONDS:
            workers = 1
    yield from each(job.run, chunks, min(workers, len(chunks)))


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1
