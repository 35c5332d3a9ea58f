"""The features of a corpus on disk: computed once, then memory-mapped by every process."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import polars as pl
import torch

from fnl.console import counting_bar, plain_console
from fnl.data.corpus import CLIP_SCHEMA, Corpus
from fnl.data.event_corpus import EventCorpus
from fnl.data.event_features import EventSpec
from fnl.data.extraction import STORED, BadClip, Report, copy_rows, write_features
from fnl.data.features import FeatureSpec
from fnl.data.torchaudio_cpu import torchaudio
from fnl.errors import CorpusError, RunError, reason_of

FEATURES_VERSION = 1
"""Part of every key: raise it whenever the same clips would give other features."""

OnBadAudio = Literal["fail", "skip"]

_BUILDING = ".building"
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RecursionError),
    # polars panics at some damaged tables, by an exception that is no `Exception`
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
"""What the parsers of a cache's files raise."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Features of a corpus' usable clips. Sent to another process, it is opened again there.

    Attributes:
        features: float16 [n, T, F], read-only, mapped from the file.
        labels: label names; `clips["label"]` indexes them.
        clips: n rows with the columns of `CLIP_SCHEMA`; row i describes `features[i]`.
        skipped: clips of the corpus that were left out for their audio.
        key: what the features are of; equal keys, equal bits.
        synthetic: whether the audio was synthesised.
        path: the folder of the files.
    """

    features: np.memmap[Any, np.dtype[np.float16]]
    labels: tuple[str, ...]
    clips: pl.DataFrame
    skipped: int
    key: str
    synthetic: bool
    path: Path

    @classmethod
    def open(cls, path: Path) -> FeatureStore:
        """Open what `build_features` built.

        Raises:
            CorpusError: if a file is missing or damaged.
        """
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            clips = pl.read_parquet(path / "clips.parquet", glob=False)
            features = np.load(path / "features.npy", mmap_mode="r")
            sound = (
                clips.schema == pl.Schema(CLIP_SCHEMA)
                and features.dtype == STORED
                and list(features.shape) == [clips.height, *meta["frame_shape"]]
                and (path / "features.npy").stat().st_size == features.offset + features.nbytes
            )
            if not sound:
                raise ValueError("its files do not fit together")
            return cls(
                features=features,
                labels=tuple(meta["labels"]),
                clips=clips,
                skipped=len(meta["bad_clips"]),
                key=meta["key"],
                synthetic=meta["synthetic"],
                path=path,
            )
        except _DAMAGED as e:
            raise CorpusError(f"feature cache {path} is damaged: {' '.join(str(e).split())}") from e

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore.open, (self.path,)


def build_features(
    corpus: Corpus | EventCorpus,
    spec: FeatureSpec | EventSpec,
    cache_dir: Path,
    *,
    workers: int = 0,
    on_bad_audio: OnBadAudio = "fail",
    progress: bool | Report = False,
) -> FeatureStore:
    """Return the features of a corpus, computed now unless `cache_dir` has them already.

    A cache appears in `<cache_dir>/features/<key>/` only once it is complete. Of several processes
    that want the same one, the first builds and the others wait for it.

    Args:
        corpus: the clips.
        spec: the features.
        cache_dir: created if missing.
        workers: processes; 0: all cores; 1: none but this one. The features do not depend on it.
        on_bad_audio: whether clips with unusable audio are an error or left out.
        progress: True: a bar on stderr; or a function called with (clips done, all clips).

    Raises:
        CorpusError: if audio is unusable and `on_bad_audio` is "fail", or a label or a split has
            no usable clip at all.
        RunError: if `cache_dir` cannot be written or a worker dies.
    """
    key = cache_key(corpus, spec, on_bad_audio)
    folder = cache_dir.absolute() / "features"
    path = folder / key
    store = _open_if_there(path)
    if store is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
            with filelock.FileLock(folder / f"{key}.lock"):
                store = _open_if_there(path)
                if store is None:
                    with reporter(progress) as report:
                        _build(
                            corpus,
                            spec,
                            path,
                            workers=workers,
                            on_bad_audio=on_bad_audio,
                            report=report,
                        )
                    store = FeatureStore.open(path)
        except (OSError, NotImplementedError) as error:
            raise RunError(
                f"cannot write the feature cache in {cache_dir}: {reason_of(error)}; "
                "make room there, or set data.cache-dir to another folder"
            ) from error
    if store.skipped:
        _logger.warning(
            "%d clips of corpus %r left out for their audio", store.skipped, corpus.name
        )
    return store


def cache_key(
    corpus: Corpus | EventCorpus, spec: FeatureSpec | EventSpec, on_bad_audio: OnBadAudio
) -> str:
    """Return a hex digest of all that decides the features."""
    parts = {
        "corpus": corpus.fingerprint,
        "labels": corpus.labels,
        "spec": asdict(spec),
        "on_bad_audio": on_bad_audio,
        "version": FEATURES_VERSION,
        "torch": torch.__version__,
        "torchaudio": torchaudio.__version__,
    }
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _open_if_there(path: Path) -> FeatureStore | None:
    if not path.exists():
        return None
    try:
        return FeatureStore.open(path)
    except CorpusError as error:
        _logger.warning("%s; it will be rebuilt", error)
        return None


def _build(
    corpus: Corpus | EventCorpus,
    spec: FeatureSpec | EventSpec,
    path: Path,
    *,
    workers: int,
    on_bad_audio: OnBadAudio,
    report: Report | None,
) -> None:
    """Build into a folder beside `path` and rename it; only under the lock of `path`."""
    building = path.with_name(path.name + _BUILDING)
    for leftover in (building, path):  # of a builder that was killed; a damaged cache
        if leftover.exists():
            shutil.rmtree(leftover)
    try:
        building.mkdir()
        features = building / "features.npy"
        bad = write_features(corpus, spec, features, workers=workers, report=report)
        clips = corpus.clips.select(CLIP_SCHEMA.keys())
        if bad:
            _check_bad(corpus, bad, on_bad_audio)
            kept = np.setdiff1d(np.arange(clips.height), [clip.row for clip in bad])
            clips = clips[kept]
            copy_rows(features, building / "kept.npy", kept)
            (building / "kept.npy").replace(features)
        clips.write_parquet(building / "clips.parquet")
        meta = {
            "key": path.name,
            "corpus": corpus.name,
            "fingerprint": corpus.fingerprint,
            "synthetic": corpus.synthetic,
            "labels": corpus.labels,
            "spec": asdict(spec),
            "frame_shape": spec.shape,
            "versions": {"torch": torch.__version__, "torchaudio": torchaudio.__version__},
            "bad_clips": {corpus.clips["clip"][row]: reason for row, reason in bad},
        }
        (building / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        for file in building.iterdir():
            _flush_to_disk(file)
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_bad(corpus: Corpus | EventCorpus, bad: list[BadClip], on_bad_audio: OnBadAudio) -> None:
    """Refuse bad clips unless they may be skipped and leave clips of every label and split."""
    names = corpus.clips["clip"]
    if on_bad_audio == "fail":
        listed = "; ".join(f"{names[clip.row]} ({clip.reason})" for clip in bad[:10])
        raise CorpusError(
            f"{len(bad)} of {len(names)} clips of corpus {corpus.name!r} have unusable audio: "
            f"{listed}{'; …' if len(bad) > 10 else ''}: repair or remove them, "
            "or set data.on-bad-audio to 'skip'"
        )
    usable = corpus.clips[np.setdiff1d(np.arange(len(names)), [clip.row for clip in bad])]
    for column, describe in (("label", corpus.labels.__getitem__), ("split", str)):
        for lost in sorted(set(corpus.clips[column]) - set(usable[column])):
            raise CorpusError(
                f"{column} {describe(lost)!r} of corpus {corpus.name!r} has no usable clip: "
                f"{len(bad)} of {len(names)} have unusable audio"
            )


def _remove_abandoned(folder: Path) -> None:
    """Remove what builders left that were killed: they no longer hold their lock."""
    for building in folder.glob(f"*{_BUILDING}"):
        lock = filelock.FileLock(folder / f"{building.stem}.lock")
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(building, ignore_errors=True)
        except filelock.Timeout:
            continue


def _flush_to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def reporter(progress: bool | Report, what: str = "features") -> Iterator[Report | None]:
    """Yield what to call after every chunk: what was given, or a bar; None without."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        with counting_bar(plain_console(stderr=True)) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
