"""Spiking recordings as a corpus: HDF5 in the layout of the Heidelberg data sets, SHD and SSC.

Cramer et al. 2020 (arXiv 1910.07407): `spikes/times` (seconds) and `spikes/units`, an array a clip,
`labels`, and under `extra` `keys` (the labels' names) and, in SHD alone, `speaker`. One file each
split, `*train.h5`, `*test.h5` and, in SSC alone, `*valid.h5`: what the publisher split stays so.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.audio_files import FileStamp, fingerprint
from fnl.data.corpus import CLIP_SCHEMA, SPLITS, TEST, TRAIN, VALIDATION, ClipError
from fnl.data.event_features import EventSpec, binned
from fnl.data.words import check_labels, chosen_words
from fnl.errors import CorpusError, one_line

if TYPE_CHECKING:
    import h5py

HEIDELBERG_UNITS = 700
"""Units of SHD and SSC; a file of another number says so in its attribute `units`."""

ENDINGS = {TRAIN: "train.h5", VALIDATION: "valid.h5", TEST: "test.h5"}
"""How the name of a split's file ends."""

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, AttributeError)
"""What h5py raises of a damaged file."""

_MOST_CLIPS, _MOST_EVENTS, _MOST_LABELS = 10_000_000, 10_000_000, 10_000
"""Of a file, of a clip of it, of a file without `extra/keys`: more is declared, not recorded."""


@dataclass(eq=False)
class EventCorpus:
    """Spiking recordings. `Corpus` but for `waveform`: what is read of a clip are its events.

    Attributes:
        files: of each split that there is.
        units: U.
        has_speakers: whether the files say who speaks; else the speaker of every clip is empty.
    """

    labels: tuple[str, ...]
    clips: pl.DataFrame
    fingerprint: str
    files: dict[str, Path]
    units: int
    has_speakers: bool
    synthetic: bool = False
    name: str = "spikes"

    @classmethod
    def create(cls, root: Path, words: str = "") -> EventCorpus:
        """Index the files in a folder; reads labels and speakers, no event.

        Args:
            root: the folder of the files.
            words: comma-separated labels; empty: all.

        Raises:
            CorpusError: if a file is missing, damaged, or contradicts another.
        """
        files = _files(root)
        tables = {split: _Table.read(path) for split, path in files.items()}
        first = tables[TRAIN]
        for split, table in tables.items():
            same = (first.names, first.units, first.speakers is None, first.synthetic)
            if same != (table.names, table.units, table.speakers is None, table.synthetic):
                raise CorpusError(
                    f"{files[split]} has other labels (extra/keys), units or speakers than "
                    f"{files[TRAIN]}: use files of one data set"
                )
        held = {first.names[number] for table in tables.values() for number in table.labels}
        labels = chosen_words(words, held, root) if words else tuple(first.names)
        check_labels(labels, root)
        numbers = {first.names.index(label): number for number, label in enumerate(labels)}
        rows = [
            (f"{split}/{row:07d}", numbers[label], table.speaker(row), split)
            for split, table in tables.items()
            for row, label in enumerate(table.labels.tolist())
            if label in numbers
        ]
        clips = pl.DataFrame(rows, schema=CLIP_SCHEMA, orient="row").sort("clip")
        stamps = [(path.name, _stamp(path)) for path in files.values()]
        digest = fingerprint(stamps, corpus="spikes", version=1, labels=labels)
        has_speakers = first.speakers is not None
        return cls(labels, clips, digest, files, first.units, has_speakers, first.synthetic)

    def features(self, row: int, spec: EventSpec) -> NDArray[np.float32]:
        """Return the events of row `row` of `clips` as features, float32 [T, F].

        Raises:
            ClipError: if they are not what they have to be.
        """
        split, _, number = self.clips["clip"][row].partition("/")
        times, units = self.events(split, int(number))
        if times.ndim != 1 or times.shape != units.shape:
            raise ClipError(f"{len(times)} times for {len(units)} units")
        if not np.isfinite(times).all() or (times < 0).any():
            raise ClipError("times that are no seconds from zero")
        if units.dtype.kind not in "iu" or ((units < 0) | (units >= self.units)).any():
            raise ClipError(f"units that are not 0 to {self.units - 1}")
        return binned(times, units, self.units, spec)

    def events(self, split: str, row: int) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return times in seconds and units of one clip of a split's file, in the file's order.

        Raises:
            ClipError: if they cannot be read.
        """
        try:
            file = _opened(self.files[split], os.getpid())
            times, units = (_own(file, f"spikes/{name}") for name in ("times", "units"))
            return np.asarray(times[row]), np.asarray(units[row])
        except _UNREADABLE as error:
            raise ClipError(one_line(error)) from error


@dataclass(frozen=True)
class _Table:
    """What a file says of all its clips."""

    names: list[str]
    labels: NDArray[np.int64]
    speakers: list[str] | None
    units: int
    synthetic: bool

    @classmethod
    def read(cls, path: Path) -> _Table:
        """Read labels, their names and speakers.

        Raises:
            CorpusError: if the file has another layout.
        """
        import h5py  # noqa: PLC0415 - a tenth of a second that other corpora need not wait

        try:
            with h5py.File(path, "r") as opened:
                file: Any = opened
                labels = _numbers(_own(file, "labels"))
                counts = {len(_own(file, f"spikes/{name}")) for name in ("times", "units")}
                names = _texts(_own(file, "extra/keys")) if "extra/keys" in file else None
                speakers = _speakers(file) if "extra/speaker" in file else None
                units = int(file.attrs.get("units", HEIDELBERG_UNITS))
                synthetic = bool(file.attrs.get("synthetic", False))
        except _UNREADABLE as error:
            raise CorpusError(
                f"{path} is no HDF5 file with spikes/times, spikes/units and labels as in SHD and "
                f"SSC: {one_line(error)}"
            ) from error
        most = min(int(labels.max(initial=0)) + 1, _MOST_LABELS)
        names = names or [str(number) for number in range(most)]
        lengths = counts | {labels.size} | ({len(speakers)} if speakers is not None else set())
        if labels.ndim != 1 or len(lengths) != 1 or units < 1:
            raise CorpusError(f"{path} has {sorted(lengths)} spikes, labels and speakers: damaged")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
            raise CorpusError(f"{path} has labels that are not 0 to {len(names) - 1}: damaged")
        if len(set(names)) < len(names):
            raise CorpusError(f"{path} names a label twice in extra/keys")
        return cls(names, labels, speakers, units, synthetic)

    def speaker(self, row: int) -> str:
        """Return who speaks in a clip; empty where nobody knows."""
        return "" if self.speakers is None else self.speakers[row]


def _files(root: Path) -> dict[str, Path]:
    """Return the file of each split in the order of `SPLITS`."""
    if not root.is_dir():
        raise CorpusError(f"no folder {root}: correct data.root")
    files: dict[str, Path] = {}
    for split in SPLITS:
        found = sorted(root.glob(f"*{ENDINGS[split]}"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise CorpusError(f"{root} has {names}: one file a split, of one data set")
        if found:
            files[split] = found[0]
    if TRAIN not in files:
        raise CorpusError(
            f"no *{ENDINGS[TRAIN]} in {root}: unpack SHD or SSC of "
            "https://zenkelab.org/datasets there, or make files by `fnl data convert`"
        )
    return files


def _stamp(path: Path) -> FileStamp:
    status = path.stat()
    return FileStamp(status.st_size, status.st_mtime_ns)


def _own(file: Any, path: str) -> Any:
    """Return a data set that lies in the file itself, of a size that a recording may have.

    Raises:
        ValueError: if it is elsewhere, none, or larger.
    """
    import h5py  # noqa: PLC0415 - as above

    place = file
    for name in path.split("/"):
        link = place.get(name, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} is a link, which is not followed")
        place = place[name]
    if not isinstance(place, h5py.Dataset) or place.external or place.is_virtual:
        raise ValueError(f"{path} is no data set of the file's own")
    clips, *others = place.shape or (_MOST_CLIPS + 1,)
    if clips > _MOST_CLIPS or math.prod(others) > _MOST_EVENTS:
        raise ValueError(f"{path} has the shape {place.shape}, which no recording has")
    return place


def _numbers(values: Any) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise ValueError(f"{values.name} are no whole numbers, one a clip")
    return values[()].astype(np.int64)


def _texts(values: Any) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else str(one) for one in values[()]]


def _speakers(file: Any) -> list[str]:
    """Return the speaker of each clip: its name where the file has names, else its number."""
    numbers = _numbers(_own(file, "extra/speaker"))
    if "extra/speaker_names" not in file:
        return [f"{number:04d}" for number in numbers.tolist()]
    names = _texts(_own(file, "extra/speaker_names"))
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(names):
        raise ValueError("extra/speaker is none of extra/speaker_names")
    return [names[number] for number in numbers.tolist()]


@lru_cache(maxsize=8)
def _opened(path: Path, _process: int) -> h5py.File:
    """Open a file once a process: an open one cannot be taken along."""
    import h5py  # noqa: PLC0415 - as above

    return h5py.File(path, "r")
