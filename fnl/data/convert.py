"""Any audio corpus as events, in files of the layout of the Heidelberg data sets."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.auditory import AuditoryModel
from fnl.data.corpus import SPLITS, ClipError, Corpus
from fnl.data.event_corpus import ENDINGS
from fnl.errors import CorpusError, RunError

Events = tuple[NDArray[np.float32], NDArray[np.uint16]]

_CHUNK = 16


def convert(
    corpus: Corpus,
    model: AuditoryModel,
    folder: Path,
    *,
    workers: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Write a file for each split that has clips, and return them.

    Beside what SHD has, a file names its speakers (`extra/speaker_names`), and says in attributes
    how many `units` there are, whether the sound was `synthetic`, and which `model` heard it. Files
    appear once they are complete. They are the same for any number of workers.

    Args:
        corpus: of audio.
        model: what hears it.
        folder: created if missing; files in it are not overwritten.
        workers: processes.
        report: called with (clips done, all clips).

    Raises:
        CorpusError: if a file is there already, or a clip's audio is unusable.
        RunError: if a file cannot be written.
    """
    files = {split: folder / ENDINGS[split] for split in SPLITS}
    for path in files.values():
        if path.exists():
            raise CorpusError(f"{path} is there already: give another --output, or remove it")
    done, total = 0, corpus.clips.height
    written: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _mapped(workers) as each:
            for split, path in files.items():
                rows = np.flatnonzero(corpus.clips["split"].to_numpy() == split)
                if not len(rows):
                    continue
                partial_file = path.with_name(f".{path.name}.{os.getpid()}")
                try:
                    with h5py.File(partial_file, "w") as file:
                        spikes: Any = _prepared(file, corpus, rows, model)
                        heard = each(partial(_heard, corpus, model), rows.tolist())
                        for place, (times, units) in enumerate(heard):
                            spikes["times"][place], spikes["units"][place] = times, units
                            done += 1
                            if report is not None:
                                report(done, total)
                    partial_file.replace(path)
                finally:
                    partial_file.unlink(missing_ok=True)
                written[split] = path
    except OSError as error:
        raise RunError(f"cannot write events to {folder}: {error}") from error
    return written


def _prepared(
    file: h5py.File, corpus: Corpus, rows: NDArray[np.int64], model: AuditoryModel
) -> h5py.Group:
    """Write all but the spikes; return the group that these go to."""
    clips: pl.DataFrame = corpus.clips[rows]
    names = sorted(corpus.clips["speaker"].unique().to_list())
    number_of = {name: number for number, name in enumerate(names)}
    text = h5py.string_dtype()
    file.attrs["units"] = model.channels
    file.attrs["synthetic"] = corpus.synthetic
    file.attrs["model"] = model.describe()
    file.create_dataset("labels", data=clips["label"].to_numpy().astype(np.uint16))
    extra = file.create_group("extra")
    extra.create_dataset("keys", data=list(corpus.labels), dtype=text)
    if all(names):
        speakers = [number_of[name] for name in clips["speaker"]]
        extra.create_dataset("speaker", data=np.array(speakers, np.uint16))
        extra.create_dataset("speaker_names", data=names, dtype=text)
    spikes = file.create_group("spikes")
    for name, kind in (("times", np.float32), ("units", np.uint16)):
        spikes.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(np.dtype(kind)))
    return spikes


def _heard(corpus: Corpus, model: AuditoryModel, row: int) -> Events:
    try:
        return model.spikes(corpus.waveform(row))
    except ClipError as error:
        name = corpus.clips["clip"][row]
        raise CorpusError(f"{name} cannot be converted ({error}): repair or remove it") from error


@contextmanager
def _mapped(workers: int) -> Iterator[Any]:
    """Yield a `map` that keeps the order, here or over processes."""
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield partial(pool.map, chunksize=_CHUNK)
