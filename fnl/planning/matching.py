"""A pilot's clips: synthetic, as many for each client as the run's clients have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fnl.config import Config, parse_config
from fnl.data.federated import Federation, prepare
from fnl.data.partitioning import Partitioning
from fnl.data.synthesis.lexicon import LEXICON
from fnl.data.words import CORE_WORDS
from fnl.errors import ConfigError
from fnl.randomness import Purpose, stream

_CLIPS_PER_WORD = 8
_TRAINING_SHARE = 0.8
"""Of the synthetic speakers."""
_SPARE = 1.5
"""Clips beyond those needed, as partitioners do not give everybody the same."""


def pilot_federation(
    config: Config, clips: Sequence[int], *, progress: bool = False
) -> tuple[Config, Federation]:
    """Return the configuration of a pilot and its clips: nothing of the run's own is read.

    Args:
        config: of the run.
        clips: n_k, of all clients alike or one each; empty: a run on the synthetic corpus has what
            its own partitioning gives.
        progress: show a bar while features are computed.

    Raises:
        ConfigError: if clips are needed and not given, or are another number than of clients, or if
            the run's privacy leaves rules nothing to rank by.
    """
    if config.is_client_private:
        raise ConfigError(
            f"privacy.mode = {config.privacy.mode!r} lets rules read nothing that clients compute: "
            "there is no ranking to plan, use privacy.mode = 'record'"
        )
    if config.shares_noise:
        raise ConfigError(
            "privacy.noise = 'distributed' shows the server no client by itself: there is no "
            "ranking to plan, use privacy.noise = 'local'"
        )
    if config.privacy.unit != "clip":
        raise ConfigError(
            f"privacy.unit = {config.privacy.unit!r}: a plan is of clips, use privacy.unit = 'clip'"
        )
    if config.data.client_hops:
        raise ConfigError(
            f"data.frame-hops = {config.data.frame_hops!r}: a plan is of clients of one time step, "
            "leave it out"
        )
    if config.compresses:
        raise ConfigError(
            "training.sent-share and training.sent-bits: a plan knows no norms of compressed "
            "updates, set them to 1 and 32"
        )
    if not clips and config.data.corpus != "synthetic":
        raise ConfigError(
            f"a plan reads no clip of data.corpus = {config.data.corpus!r}: say how many a client "
            "has, --clips 81, or one number for each client"
        )
    if any(count < 1 for count in clips):
        raise ConfigError("--clips: every client has at least one clip")
    if len(clips) not in (0, 1, config.data.clients):
        raise ConfigError(
            f"--clips has {len(clips)} numbers: give one, or data.clients = {config.data.clients}"
        )
    pilot = parse_config(config.flat() | _keys(config, clips))
    federation = prepare(pilot, progress=progress)
    if not clips:
        return pilot, federation
    wanted = list(clips) * (config.data.clients if len(clips) == 1 else 1)
    return pilot, replace(federation, partitioning=_cut(federation.partitioning, wanted, pilot))


def _keys(config: Config, clips: Sequence[int]) -> dict[str, object]:
    """Return what the pilot sets otherwise than the run."""
    measured = {
        "evaluation.shadow": True,
        "evaluation.floor": True,
        "evaluation.sensitivity": False,
        "evaluation.average": 0.0,
        "run.strict-privacy": False,
        "privacy.secure-noise": False,
        "coordination.estimate": "plain",
        "coordination.min-reliability": 0.0,
    }
    if not clips:
        return measured
    words = _words(config)
    total = _SPARE * max(clips) * config.data.clients
    fewest = math.ceil(config.data.clients / _TRAINING_SHARE)  # a client may be whole speakers
    speakers = math.ceil(total / (_TRAINING_SHARE * len(words) * _CLIPS_PER_WORD))
    speakers = max(10, fewest, speakers)
    per_word = math.ceil(total / (_TRAINING_SHARE * len(words) * speakers))
    return measured | {
        "data.corpus": "synthetic",
        "data.root": "",
        "data.words": ",".join(words),
        "data.speakers": 10 * math.ceil(speakers / 10),
        "data.clips-per-word": per_word,
    }


def _words(config: Config) -> tuple[str, ...]:
    """Return as many synthetic words as the run has labels, the same ones where there are."""
    words = config.data.words
    if words in ("core", "twelve"):
        return CORE_WORDS if words == "core" else tuple(LEXICON)[:12]
    if words == "all":
        return tuple(LEXICON) if config.data.corpus == "speech-commands" else CORE_WORDS
    own = tuple(word.strip() for word in words.split(","))
    return own if set(own) <= set(LEXICON) else tuple(LEXICON)[: len(own)]


def _cut(partitioning: Partitioning, wanted: Sequence[int], config: Config) -> Partitioning:
    """Return the partitioning with at most as many clips of each client as are wanted."""
    kept = []
    for partition, count in enumerate(wanted):
        rows = partitioning.rows(partition)
        draw = stream(config.run.seed, Purpose.PILOT, partition)
        chosen = draw.permutation(len(rows))[:count]
        kept.append(np.sort(rows[chosen]))
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])]).astype(np.int64)
    return Partitioning(np.concatenate(kept), offsets, partitioning.method)
