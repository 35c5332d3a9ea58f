"""The group `data` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Count, Group, NonNegative, Positive


class DataGroup(Group, frozen=True):
    """Corpus, features and how the training clips are spread over clients."""

    corpus: Literal["synthetic", "speech-commands", "folder", "device"] = "synthetic"
    root: str = ""
    """Folder of the corpus; not used by the synthetic one, and under `device` the server's own."""
    words: Annotated[str, Field(min_length=1)] = "core"
    """`core` (ten words), `all`, `twelve` (core, unknown, silence) or a comma-separated list."""
    clients: Count = 20
    """Partitions of the training clips, each one client."""
    partitioner: Literal["speaker", "dirichlet", "shards", "iid"] = "speaker"
    alpha: Positive = 0.3
    """Concentration of `dirichlet`: small is skewed, large is IID."""
    labels_per_client: Count = 2
    """Labels a client holds under `shards`."""
    quantity_alpha: NonNegative = 0.0
    """Dirichlet concentration of client sizes; 0: no quantity skew."""
    min_clips: Count = 2
    speakers: Annotated[int, Field(ge=10)] = 250
    clips_per_word: Count = 8
    difficulty: NonNegative = 1.5
    """Spread of the synthetic speakers, rooms and noise; 1.5 is about as hard as real clips."""
    corpus_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the corpus itself (synthesis, splits), apart from run.seed: runs share a corpus."""
    features: Literal["log-mel", "mfcc"] = "log-mel"
    mel_bins: Annotated[int, Field(ge=4, le=128)] = 40
    frame_hop_ms: Annotated[int, Field(ge=5, le=100)] = 20
    on_bad_audio: Literal["fail", "skip"] = "fail"
    cache_dir: str = ""
    """Feature cache; empty: `$FNL_CACHE_DIR`, else `~/.cache/fnl`."""
