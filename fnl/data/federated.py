"""The federation's data as clients and server see it: features, labels and who holds what.

`prepare` does the expensive work once (features, partitioning) and leaves it in the cache;
`open_federation` in a worker only maps files.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.config import Config, DataGroup, EvaluationGroup, RunGroup
from fnl.data.corpus import CLIP_SCHEMA, TRAIN, Corpus
from fnl.data.event_corpus import EventCorpus
from fnl.data.event_features import EventSpec
from fnl.data.features import FeatureSpec
from fnl.data.folder import FolderCorpus
from fnl.data.partitioning import Partitioning, PartitionSpec, partition
from fnl.data.speech_commands import SpeechCommandsCorpus
from fnl.data.store import FeatureStore, build_features
from fnl.data.synthetic import LEXICON, SyntheticCorpus
from fnl.data.words import CORE_WORDS
from fnl.errors import CorpusError
from fnl.import_path import imported
from fnl.randomness import Purpose, stream

_logger = logging.getLogger(__name__)

FEW = 30
"""Evaluation clips of which fewer are warned of: a standard error of accuracy of 9 points."""

PARTITION_VERSION = 1
"""Part of every cached partitioning's key: raise it when the same spec gives another result."""


@dataclass(frozen=True)
class Federation:
    """Prepared data of one run.

    Attributes:
        store: features [n, T, F] and the clips' index.
        partitioning: which training rows each client holds.
        labels: int64 [n], label of every row.
        hops: partition -> its time step in ms, where clients differ in it.
        stores: time step in ms -> the same rows at that step, of those that `store` has not.
    """

    store: FeatureStore
    partitioning: Partitioning
    labels: NDArray[np.int64]
    hops: Mapping[int, int] = field(default_factory=dict)
    stores: Mapping[int, FeatureStore] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of labels."""
        return len(self.store.labels)

    @property
    def inputs(self) -> int:
        """Features of a time step."""
        return int(self.store.features.shape[2])

    def client_clips(self, partition_id: int) -> tuple[Tensor, Tensor]:
        """Return float32 [n_k, T, F] and int64 [n_k] of one client, at its own time step."""
        store = self.stores.get(self.hops.get(partition_id, 0), self.store)
        return self._clips(self.partitioning.rows(partition_id), store)

    def client_speakers(self, partition_id: int) -> NDArray[np.str_]:
        """Return who speaks in the clips of one client, str [n_k]."""
        names = self.store.clips["speaker"][self.partitioning.rows(partition_id)]
        return names.to_numpy().astype(str)

    def split_clips(self, split: str) -> tuple[Tensor, Tensor]:
        """Return float32 [n, T, F] and int64 [n] of all clips of one split."""
        return self._clips(_rows_of(self.store, split), self.store)

    def _clips(self, rows: NDArray[np.int64], store: FeatureStore) -> tuple[Tensor, Tensor]:
        features = torch.from_numpy(store.features[rows].astype(np.float32))
        return features, torch.from_numpy(self.labels[rows])


def cache_dir(data: DataGroup) -> Path:
    """Return where features and partitionings are kept."""
    if data.cache_dir:
        return Path(data.cache_dir).expanduser().resolve()
    if configured := os.environ.get("FNL_CACHE_DIR"):
        return Path(configured).expanduser().resolve()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fnl"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / f"fnl-cache-{getattr(os, 'getuid', str)()}"


def open_corpus(data: DataGroup) -> Corpus:
    """Return the corpus of audio that `data` describes; reads the index, no audio.

    Raises:
        CorpusError: if it is not there or cannot be used.
    """
    if data.corpus == "speech-commands":
        return SpeechCommandsCorpus.create(
            Path(data.root).expanduser(), data.words, data.corpus_seed
        )
    if data.corpus == "spikes":
        raise CorpusError("data.corpus = 'spikes' has events: name a corpus of audio")
    if data.corpus == "device":
        raise CorpusError(
            "data.corpus = 'device' has its clips on SuperNodes, which docs/deployment.md starts: "
            "a simulation needs another corpus"
        )
    if ":" in data.corpus:
        return _own_corpus(data)
    if data.corpus == "folder":
        words = "" if data.words in ("core", "all") else data.words
        return FolderCorpus.create(
            Path(data.root).expanduser(), words, data.corpus_seed, data.speaker_pattern
        )
    return SyntheticCorpus.create(
        _synthetic_words(data.words),
        speakers=data.speakers,
        clips_per_word=data.clips_per_word,
        seed=data.corpus_seed,
        difficulty=data.difficulty,
    )


def _event_corpus(data: DataGroup) -> EventCorpus:
    """Return the spiking recordings in `data.root`.

    Raises:
        CorpusError: if they cannot be used, or are split by speakers that nobody knows.
    """
    root = Path(data.root).expanduser()
    corpus = EventCorpus.create(root, "" if data.words in ("core", "all") else data.words)
    if data.partitioner == "speaker" and not corpus.has_speakers:
        raise CorpusError(
            f"the files in {root} do not say who speaks (extra/speaker), as in SSC: set "
            "data.partitioner to iid, dirichlet or shards"
        )
    return corpus


def _own_corpus(data: DataGroup) -> Corpus:
    """Return the corpus that a function of the user's makes of `data`.

    Raises:
        ConfigError: if there is no such function.
        CorpusError: if it returns something else.
    """
    corpus = imported("data.corpus", data.corpus)(data)
    if not isinstance(corpus, Corpus) or dict(corpus.clips.schema) != CLIP_SCHEMA:
        raise CorpusError(
            f"data.corpus = {data.corpus!r} returned a {type(corpus).__name__}: a corpus has the "
            "members of fnl.data.corpus.Corpus, and its clips the columns of CLIP_SCHEMA"
        )
    return corpus


def _synthetic_words(words: str) -> tuple[str, ...]:
    if words == "core":
        return CORE_WORDS
    if words == "all":
        return tuple(LEXICON)
    return tuple(word.strip() for word in words.split(","))


def partition_spec(config: Config) -> PartitionSpec:
    """Return how the training clips are spread over clients."""
    data = config.data
    return PartitionSpec(
        partitioner=data.partitioner,
        clients=data.clients,
        alpha=data.alpha,
        labels_per_client=data.labels_per_client,
        quantity_alpha=data.quantity_alpha,
        min_clips=data.min_clips,
        seed=config.run.seed,
    )


def prepare(config: Config, *, workers: int = 0, progress: bool = False) -> Federation:
    """Return the federation of `config`, building and caching what is not there yet.

    Args:
        config: its groups `data` and `run.seed` decide everything.
        workers: processes that compute features; 0: all cores.
        progress: show a progress bar.

    Raises:
        FnlError: one line on what is wrong with the corpus, the audio or the partitioning.
    """
    data = config.data
    corpus = _event_corpus(data) if data.corpus == "spikes" else open_corpus(data)
    if len(corpus.labels) < 2:
        raise CorpusError(f"the corpus has the labels {list(corpus.labels)}: two are needed")
    build = partial(
        build_features,
        corpus,
        cache_dir=cache_dir(data),
        workers=1 if ":" in data.corpus else workers,  # one's own may be of this session
        on_bad_audio=data.on_bad_audio,
        progress=progress,
    )
    store = build(spec=EventSpec.of(data) if data.corpus == "spikes" else FeatureSpec.of(data))
    others = [hop for hop in data.client_hops if hop != data.frame_hop_ms]
    stores = {hop: build(spec=FeatureSpec.of(data, hop)) for hop in others}
    if not all(other.clips.equals(store.clips) for other in stores.values()):
        raise CorpusError(f"corpus {corpus.name!r} has other usable clips at other time steps")
    for split in (TRAIN, config.evaluation.split):
        if not (store.clips["split"] == split).any():
            raise CorpusError(f"the corpus has no {split} clips: {corpus.name}, {data.root}")
    trained = set(store.clips.filter(split=TRAIN)["label"].unique())
    if lacking := [name for code, name in enumerate(store.labels) if code not in trained]:
        raise CorpusError(
            f"labels of corpus {corpus.name!r} without training clips: {', '.join(lacking)}"
        )
    if progress:  # once a run: workers open the same data in silence
        for reason in getattr(corpus, "left_out", ()):
            _logger.warning("left out of %s: %s", data.root, reason)
    return Federation(
        store=store,
        partitioning=_cached_partitioning(store, partition_spec(config), cache_dir(data)),
        labels=store.clips["label"].to_numpy().astype(np.int64),
        hops=hops_of_clients(config),
        stores=stores,
    )


def hops_of_clients(config: Config) -> dict[int, int]:
    """Return the time step in ms of each partition; empty where all have the run's.

    As many have one as another, up to one client, drawn from the run's seed: known to everybody.
    """
    hops = config.data.client_hops
    if not hops:
        return {}
    order = stream(config.run.seed, Purpose.FRAME_HOPS).permutation(config.data.clients)
    return {int(partition): hops[place % len(hops)] for place, partition in enumerate(order)}


def few_clips_warnings(store: FeatureStore, split: str) -> list[str]:
    """Return what a run says where accuracy rests on few clips, or on some of the labels only."""
    tested = store.clips.filter(split=split)
    labels, of = tested["label"].n_unique(), len(store.labels)
    if len(tested) >= FEW and labels == of:
        return []
    return [f"accuracy will be of {len(tested)} {split} clips, with {labels} of {of} labels"]


def _cached_partitioning(store: FeatureStore, spec: PartitionSpec, cache: Path) -> Partitioning:
    rows = _rows_of(store, TRAIN)
    if ":" in spec.partitioner:  # one's own may have been edited
        return partition(store.clips, rows, spec)
    key = sha256(f"{PARTITION_VERSION}:{store.key}:{spec!r}".encode()).hexdigest()[:32]
    path = cache / "partitions" / f"{key}.npz"
    if path.exists():
        return Partitioning.load(path)
    partitioning = partition(store.clips, rows, spec)
    with suppress(OSError):  # features may lie in a cache that can only be read
        path.parent.mkdir(parents=True, exist_ok=True)
        partitioning.save(path)
    return partitioning


def _rows_of(store: FeatureStore, split: str) -> NDArray[np.int64]:
    """Return the rows of a split, int64 [n]; no clip becomes an object of Python's."""
    return (store.clips["split"] == split).arg_true().to_numpy().astype(np.int64)


def open_federation(config: Config) -> Federation:
    """Return the federation of `config`, once a process: see `prepare`.

    Runs of a process that hold the same data share it, however they differ otherwise.
    """
    return _open_once(config.data, config.run.seed, config.evaluation.split)


@lru_cache(maxsize=4)
def _open_once(data: DataGroup, seed: int, split: Literal["test", "validation"]) -> Federation:
    decisive = {
        "data": data,
        "run": RunGroup(seed=seed),
        "evaluation": EvaluationGroup(split=split),
    }
    return prepare(Config().model_copy(update=decisive), workers=1)
