"""The synthetic corpus: an index and audio that depend on names alone."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import polars as pl
import pytest

from fnl.data.corpus import CLIP_SCHEMA, SPLITS, Corpus
from fnl.data.synthesis.channel import draw_channel, record
from fnl.data.synthesis.speaker import synthesise_clip
from fnl.data.synthetic import LEXICON, SyntheticCorpus, split_of_speaker
from fnl.data.words import CORE_WORDS
from fnl.errors import CorpusError


def make(words=("yes", "no"), speakers=10, clips_per_word=2, seed=3, difficulty=1.5):
    return SyntheticCorpus.create(words, speakers, clips_per_word, seed, difficulty)


def by_name(corpus: SyntheticCorpus, names: list[str]) -> list[np.ndarray]:
    rows = {name: row for row, name in enumerate(corpus.clips["clip"])}
    return [corpus.waveform(rows[name]) for name in names]


def test_it_is_a_corpus_with_one_row_a_clip():
    corpus = make()
    assert isinstance(corpus, Corpus)
    assert dict(corpus.clips.schema) == CLIP_SCHEMA
    assert len(corpus.clips) == 2 * 10 * 2 == corpus.clips["clip"].n_unique()
    assert corpus.clips["clip"].is_sorted()
    assert corpus.synthetic
    row = corpus.clips.row(by_predicate=pl.col("clip") == "yes/0007_1", named=True)
    assert row == {
        "clip": "yes/0007_1",
        "label": 0,
        "speaker": "synthetic-0007",
        "split": "train",
    }


def test_every_word_makes_finite_audible_audio_of_one_second():
    corpus = make(words=tuple(LEXICON), clips_per_word=1)
    for row in range(0, len(corpus.clips), 7):
        waveform = corpus.waveform(row)
        assert waveform.shape == (16_000,)
        assert waveform.dtype == np.float32
        assert np.all(np.isfinite(waveform))
        assert np.max(np.abs(waveform)) <= 1
        assert 1e-3 < np.std(waveform) < 0.5


@pytest.mark.parametrize("difficulty", [0.0, 4.0])
def test_the_extremes_of_difficulty_are_still_audio(difficulty):
    corpus = make(difficulty=difficulty)
    for row in range(0, len(corpus.clips), 5):
        waveform = corpus.waveform(row)
        assert np.all(np.isfinite(waveform))
        assert np.max(np.abs(waveform)) <= 1


def _waveform(corpus: SyntheticCorpus, row: int) -> np.ndarray:
    return corpus.waveform(row)


@pytest.mark.slow
def test_any_order_and_any_process_give_the_same_bits():
    corpus = make()
    rows = list(range(0, len(corpus.clips), 3))
    forwards = {row: corpus.waveform(row) for row in rows}
    backwards = {row: pickle.loads(pickle.dumps(corpus)).waveform(row) for row in rows[::-1]}  # noqa: S301 - our own bytes
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = dict(zip(rows, pool.map(_waveform, [corpus] * len(rows), rows), strict=True))
    for row in rows:
        np.testing.assert_array_equal(forwards[row], backwards[row])
        np.testing.assert_array_equal(forwards[row], elsewhere[row])


@pytest.mark.parametrize(
    "larger",
    [{"words": ("stop", "no", "yes")}, {"speakers": 23}, {"clips_per_word": 5}],
    ids=lambda change: next(iter(change)),
)
def test_a_larger_corpus_contains_the_smaller_one_unchanged(larger):
    small, large = make(), make(**larger)
    columns = ["clip", "speaker", "split"]
    joined = small.clips.select(columns).join(large.clips, on=columns, how="semi")
    assert len(joined) == len(small.clips)
    names = small.clips["clip"].to_list()[::6]
    for before, after in zip(by_name(small, names), by_name(large, names), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "change",
    [
        {"words": ("no", "yes")},
        {"words": ("yes", "go")},
        {"speakers": 11},
        {"clips_per_word": 3},
        {"seed": 4},
        {"difficulty": 1.25},
    ],
    ids=str,
)
def test_the_fingerprint_names_every_parameter(change):
    assert make().fingerprint == make().fingerprint
    assert make(**change).fingerprint != make().fingerprint


def test_the_fingerprint_names_the_version_of_the_synthesiser(monkeypatch):
    before = make().fingerprint
    monkeypatch.setattr("fnl.data.synthetic.SYNTHESIS_VERSION", 10**6)
    assert make().fingerprint != before


def test_seed_speaker_word_repetition_and_difficulty_each_change_the_audio():
    reference = synthesise_clip(0, 1, "yes", 2, 1.5)
    for other in [(1, 1, "yes", 2, 1.5), (0, 2, "yes", 2, 1.5), (0, 1, "no", 2, 1.5)]:
        assert not np.array_equal(reference, synthesise_clip(*other))
    assert not np.array_equal(reference, synthesise_clip(0, 1, "yes", 3, 1.5))
    assert not np.array_equal(reference, synthesise_clip(0, 1, "yes", 2, 1.4))


def test_splits_share_no_speaker_and_hold_eight_one_and_one_of_every_ten():
    corpus = make(speakers=50, clips_per_word=1)
    speakers = corpus.clips.group_by("split").agg(pl.col("speaker").unique())
    sets = {split: set(names) for split, names in speakers.iter_rows()}
    assert {split: len(sets[split]) for split in SPLITS} == {
        "train": 40,
        "validation": 5,
        "test": 5,
    }
    assert len(set.union(*sets.values())) == 50


def test_ten_speakers_fill_every_split():
    assert {split_of_speaker(number) for number in range(10)} == set(SPLITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ("yes", "computer")}, "cannot say 'computer'"),
        ({"words": ("yes", "yes")}, "'yes' is given 2 times"),
        ({"words": ()}, "at least one word"),
        ({"speakers": 9}, "at least 10 speakers.* got 9"),
        ({"clips_per_word": 0}, "at least 1, got 0"),
        ({"seed": -1}, "must not be negative, got -1"),
        ({"difficulty": -0.5}, "must lie in 0 to 4, got -0.5"),
        ({"difficulty": float("nan")}, "must lie in 0 to 4, got nan"),
        ({"difficulty": 5}, "must lie in 0 to 4, got 5"),
    ],
)
def test_impossible_parameters_are_one_clear_line(change, message):
    with pytest.raises(CorpusError, match=message) as raised:
        make(**change)
    assert "\n" not in str(raised.value)


def test_the_channel_keeps_its_signal_to_noise_ratio():
    channel = draw_channel(np.random.default_rng(0), 1.5)
    quiet = replace(channel, signal_to_noise_db=300.0)
    seconds = np.arange(8000) / 16_000
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    ratios_db = []
    for seed in range(30):
        clean = record(tone, quiet, np.random.default_rng(seed))
        noise = record(tone, channel, np.random.default_rng(seed)) - clean
        ratios_db.append(10 * np.log10(np.mean(clean**2) / np.mean(noise**2)))
    # Clips scatter by 3 dB around the speaker's ratio.
    assert np.mean(ratios_db) == pytest.approx(channel.signal_to_noise_db, abs=1.5)
    assert 1.5 < np.std(ratios_db) < 4.5


def test_reverberation_does_not_wrap_around_to_before_the_word():
    channel = replace(draw_channel(np.random.default_rng(2), 1.5), signal_to_noise_db=300.0)
    clip = record(
        np.ones(4000, dtype=np.float32),
        replace(channel, timing_spread=0.0),
        np.random.default_rng(0),
    )
    power = clip.astype(np.float64) ** 2
    assert power[:5500].sum() < 1e-4 * power.sum()
    assert power[10_500:].sum() > 1e-3 * power.sum()


def test_words_sound_alike_within_and_differ_between_words():
    """Nearest-neighbour over spectra of clean clips: what a listener would need at the least."""

    def fingerprint(waveform: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(waveform, 16_000))[:8000].reshape(80, 100) ** 2
        logarithm = np.log(power.mean(axis=1))
        return logarithm - logarithm.mean()

    speakers, words = range(10), ("yes", "go", "left", "two")
    clean = {
        (w, s, r): fingerprint(synthesise_clip(5, s, w, r, 0.0))
        for w in words
        for s in speakers
        for r in range(2)
    }
    hits = [
        min(words, key=lambda w: np.sum((clean[w, speaker, 1] - clean[word, speaker, 0]) ** 2))
        == word
        for word in words
        for speaker in speakers
    ]
    assert np.mean(hits) > 0.9


# Root mean square below 1 kHz, from 1 to 3 kHz and above.
PINNED_BANDS = {
    (0, "yes"): (0.0181420, 0.00598897, 0.00422009),
    (7, "stop"): (0.0625568, 0.0292628, 0.0101290),
}


@pytest.mark.parametrize(("speaker", "word"), PINNED_BANDS)
def test_audio_changes_only_with_the_synthesis_version(speaker, word):
    """If this fails and the change is meant, increase SYNTHESIS_VERSION and these numbers."""
    waveform = synthesise_clip(0, speaker, word, 0, 1.5).astype(np.float64)
    power = 2 * np.abs(np.fft.rfft(waveform) / 16_000) ** 2
    bands = [np.sqrt(power[a:b].sum()) for a, b in ((0, 1000), (1000, 3000), (3000, 8000))]
    np.testing.assert_allclose(bands, PINNED_BANDS[speaker, word], rtol=1e-3)


def test_core_words_are_all_different_words():
    assert make(words=CORE_WORDS).labels == CORE_WORDS
