"""Corpora that do not know who speaks."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from fnl.config import DataGroup
from fnl.data.synthetic import SyntheticCorpus


def _named(data: DataGroup, speaker: pl.Expr) -> SyntheticCorpus:
    corpus = SyntheticCorpus.create(
        ("yes", "no"), speakers=data.speakers, clips_per_word=data.clips_per_word, seed=0
    )
    digest = f"{corpus.fingerprint} {speaker}"
    return replace(corpus, clips=corpus.clips.with_columns(speaker=speaker), fingerprint=digest)


def each_alone(data: DataGroup) -> SyntheticCorpus:
    """Return a corpus whose speakers have one clip each."""
    return _named(data, pl.col("clip"))


def nameless(data: DataGroup) -> SyntheticCorpus:
    """Return a corpus in which some clips have no speaker."""
    named = pl.col("speaker")
    last = named.str.slice(-1).is_in(["1", "2"])
    return _named(data, pl.when(last).then(pl.lit("")).otherwise(named))
