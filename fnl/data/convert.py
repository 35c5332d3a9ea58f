"""Any audio corpus as events, in files of the layout of the Heidelberg data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.auditory import AuditoryModel
from fnl.data.corpus import SPLITS, ClipError, Corpus
from fnl.data.event_corpus import ENDINGS
from fnl.data.processes import each
from fnl.errors import CorpusError, RunError
from fnl.runtime.atomic import write_atomically

Events = tuple[NDArray[np.float32], NDArray[np.uint16]]


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
        RunError: if a file cannot be written or a worker dies.
    """
    files = {split: folder / ENDINGS[split] for split in SPLITS}
    for path in files.values():
        if path.exists():
            raise CorpusError(f"{path} is there already: give another --output, or remove it")
    splits = corpus.clips["split"].to_numpy()
    rows = {one: found for one in SPLITS if (found := np.flatnonzero(splits == one).tolist())}
    everything = [row for of_split in rows.values() for row in of_split]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(each(partial(_heard, corpus, model), everything, workers)) as heard:
            events = _reported(heard, len(everything), report)
            for split, of_split in rows.items():
                write_atomically(files[split], partial(_write, corpus, model, of_split, events))
    except OSError as error:
        raise RunError(f"cannot write events to {folder}: {error}") from error
    return {split: files[split] for split in rows}


def _reported(
    heard: Iterator[tuple[int, Events]], total: int, report: Callable[[int, int], None] | None
) -> Iterator[Events]:
    for done, (_, events) in enumerate(heard, start=1):
        if report is not None:
            report(done, total)
        yield events


def _write(
    corpus: Corpus, model: AuditoryModel, rows: list[int], events: Iterator[Events], path: Path
) -> None:
    """Write one split's file, whose clips are the next of `events`."""
    clips: pl.DataFrame = corpus.clips[rows]
    names = sorted(corpus.clips["speaker"].unique().to_list())
    number_of = {name: number for number, name in enumerate(names)}
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
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
        times, units = (
            file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(np.dtype(kind)))
            for name, kind in (("times", np.float32), ("units", np.uint16))
        )
        for place, (of_clip, channels) in enumerate(islice(events, len(rows))):
            times[place], units[place] = of_clip, channels


def _heard(corpus: Corpus, model: AuditoryModel, row: int) -> Events:
    try:
        return model.spikes(corpus.waveform(row))
    except ClipError as error:
        name = corpus.clips["clip"][row]
        raise CorpusError(f"{name} cannot be converted ({error}): repair or remove it") from error
