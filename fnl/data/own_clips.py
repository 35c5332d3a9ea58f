"""The clips that one party of a deployment has: a device's to train on, the server's to evaluate.

A federation over devices has no common corpus. What all parties share is the list of labels
(`data.words`) and the features; each has a folder `<label>/<speaker>_<anything>.wav` of its own, in
which labels may be missing, and all of it belongs to one split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.config import Config
from fnl.data.audio_files import fingerprint, scan_audio
from fnl.data.corpus import CLIP_SCHEMA, TRAIN
from fnl.data.features import FeatureSpec
from fnl.data.federated import Federation
from fnl.data.folder import FolderCorpus, label_of
from fnl.data.partitioning import Partitioning
from fnl.data.speaker_names import speaker_of
from fnl.data.store import FeatureStore, build_features
from fnl.data.words import CORE_WORDS, check_labels
from fnl.errors import CorpusError


def fixed_labels(words: str) -> tuple[str, ...]:
    """Return the labels that `data.words` names, the same and in the same order for all parties.

    Raises:
        CorpusError: if an entry is empty or named twice, or there are fewer than two.
    """
    labels = CORE_WORDS if words == "core" else tuple(word.strip() for word in words.split(","))
    if "" in labels or len(set(labels)) < len(labels):
        raise CorpusError(f"data.words = {words!r} has an empty entry or names one twice")
    check_labels(labels, Path())
    return labels


def own_corpus(root: Path, labels: tuple[str, ...], split: str) -> FolderCorpus:
    """Index a party's own folder: all clips of `labels` in it, all in `split`.

    Raises:
        CorpusError: if there is no such folder, it cannot be read, or has no clip of these labels.
    """
    files = {
        path: stamp for path, stamp in scan_audio(root).files.items() if label_of(path) in labels
    }
    if not files:
        raise CorpusError(f"no clips of {', '.join(labels)} in {root}: one folder a label")
    rows = [(path, labels.index(label_of(path)), speaker_of(path), split) for path in files]
    clips = pl.DataFrame(rows, schema=CLIP_SCHEMA, orient="row").sort("clip")
    digest = fingerprint(files.items(), corpus="own", version=1, labels=labels, split=split)
    return FolderCorpus(root, labels, clips, digest)


def device_federation(
    config: Config, root: Path, cache: Path, partition: int, *, hop: int = 0
) -> Federation:
    """Return what a device sees of the federation: its own clips, as `partition`'s.

    Args:
        config: labels and features; its paths are the server's and are not used.
        root: the device's folder of clips.
        cache: where its features are kept.
        partition: the client's number.
        hop: the device's time step in ms; 0: the run's.

    Raises:
        CorpusError: if the clips cannot be used or are fewer than `data.min-clips`.
    """
    hop = hop or config.data.frame_hop_ms
    corpus = own_corpus(root, fixed_labels(config.data.words), TRAIN)
    store = _features(config, corpus, cache, hop)
    if store.clips.height < config.data.min_clips:
        raise CorpusError(
            f"{store.clips.height} usable clips in {root}: data.min-clips is "
            f"{config.data.min_clips}"
        )
    hops = {partition: hop} if config.data.client_hops else {}
    return replace(_federation(store, partition), hops=hops)


def server_federation(config: Config, cache: Path) -> Federation:
    """Return what the server sees: its evaluation clips in `data.root`, none if that is empty.

    Raises:
        CorpusError: if the clips cannot be used.
    """
    labels = fixed_labels(config.data.words)
    if not config.data.root:
        return _federation(_no_clips(config, labels), None)
    root = Path(config.data.root).expanduser()
    corpus = own_corpus(root, labels, config.evaluation.split)
    return _federation(_features(config, corpus, cache), None)


def _features(config: Config, corpus: FolderCorpus, cache: Path, hop: int = 0) -> FeatureStore:
    spec, bad = FeatureSpec.of(config.data, hop), config.data.on_bad_audio
    return build_features(corpus, spec, cache, workers=1, on_bad_audio=bad)


def _no_clips(config: Config, labels: tuple[str, ...]) -> FeatureStore:
    empty = np.zeros((0, *FeatureSpec.of(config.data).shape), np.float16).view(np.memmap)
    return FeatureStore(
        features=empty,
        labels=labels,
        clips=pl.DataFrame(schema=CLIP_SCHEMA),
        skipped=0,
        key="",
        synthetic=False,
        path=Path(),
    )


def _federation(store: FeatureStore, partition: int | None) -> Federation:
    labels: NDArray[np.int64] = store.clips["label"].to_numpy().astype(np.int64)
    held = np.arange(len(labels) if partition is not None else 0, dtype=np.int64)
    offsets = np.zeros((partition or 0) + 2, np.int64)
    offsets[-1] = len(held)
    return Federation(store, Partitioning(held, offsets, "own clips"), labels)
