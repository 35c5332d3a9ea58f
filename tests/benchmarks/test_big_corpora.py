"""The corpora of benchmarks have the sizes that documents name."""

from __future__ import annotations

import polars as pl

from benchmarks.full_size import FEWEST, SIZES, keywords
from benchmarks.start import CLIPS_PER_CLIENT, echoes
from fnl.config import DataGroup
from fnl.data.corpus import CLIP_SCHEMA, TRAIN, Corpus


def test_keywords_are_as_many_as_in_speech_commands_and_speakers_differ():
    corpus = keywords(DataGroup())
    assert isinstance(corpus, Corpus)
    clips = corpus.clips
    assert dict(clips.schema) == CLIP_SCHEMA
    assert [clips.height, clips["clip"].n_unique(), len(corpus.labels)] == [105_829, 105_829, 35]
    assert clips["speaker"].n_unique() == 2_618
    sizes = clips.group_by("split").agg(pl.col("speaker").n_unique(), pl.len())
    assert {split: (speakers, count) for split, speakers, count in sizes.rows()} == SIZES
    assert clips.group_by("split").agg(pl.col("label").n_unique())["label"].to_list() == [35] * 3
    of_speakers = clips.group_by("speaker").len()["len"]
    assert of_speakers.min() >= FEWEST
    assert of_speakers.max() > 10 * of_speakers.median()
    assert clips.equals(keywords(DataGroup()).clips)
    assert corpus.fingerprint != keywords(DataGroup(corpus_seed=1)).fingerprint
    assert corpus.waveform(0).shape == (16_000,)


def test_echoes_have_eight_clips_a_training_speaker():
    corpus = echoes(DataGroup(speakers=50))
    assert isinstance(corpus, Corpus)
    assert dict(corpus.clips.schema) == CLIP_SCHEMA
    assert corpus.clips["clip"].is_sorted()
    trained = corpus.clips.filter(split=TRAIN).group_by("speaker").len()["len"]
    assert trained.to_list() == [CLIPS_PER_CLIENT] * 50
