"""The `synthetic` corpus: spoken keywords without a download.

Every clip is synthesised when it is asked for, from the corpus' parameters and its name alone, so
any row can be had in any order in any process, and a corpus with more words, speakers or
repetitions contains every clip of the smaller one unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.data.corpus import TEST, TRAIN, VALIDATION
from fnl.data.synthesis.lexicon import LEXICON
from fnl.errors import CorpusError

__all__ = ["LEXICON", "SYNTHESIS_VERSION", "SyntheticCorpus", "split_of_speaker"]

SYNTHESIS_VERSION = 1
"""Part of every fingerprint. Increase it with any change that changes audio."""

MINIMUM_SPEAKERS = 10
"""The fewest speakers that fill all three splits."""

MAXIMUM_DIFFICULTY = 4.0
"""Above this the noise is louder than any speech."""


def split_of_speaker(number: int) -> str:
    """Return the split of a speaker: of every ten, the ninth is validation, the tenth test.

    The rule looks at nothing but the number, so a speaker never changes split.
    """
    return {8: VALIDATION, 9: TEST}.get(number % 10, TRAIN)


@dataclass(frozen=True)
class SyntheticCorpus:
    """Keywords said by synthetic speakers; a `fnl.data.corpus.Corpus`. Make one with `create`.

    At the default difficulty, ten words by a hundred speakers are about as hard to tell apart as
    the same number of real clips (`benchmarks/synthetic_difficulty.py`). They are not real speech:
    results must say `synthetic`.

    Attributes:
        labels: the words, in the order given; `clips["label"]` indexes them.
        speakers: number of speakers.
        clips_per_word: repetitions of each word by each speaker.
        seed: names the random streams of speakers and clips.
        difficulty: spread of accents, reverberation, noise; 0 to `MAXIMUM_DIFFICULTY`.
        clips: one row a clip, sorted by name, e.g. "yes/0007_2" by "synthetic-0007".
        fingerprint: SHA-256 of all parameters and `SYNTHESIS_VERSION`.
    """

    labels: tuple[str, ...]
    speakers: int
    clips_per_word: int
    seed: int
    difficulty: float
    fingerprint: str
    clips: pl.DataFrame = field(repr=False, compare=False)
    name: str = "synthetic"
    synthetic: bool = True

    @classmethod
    def create(
        cls,
        words: Sequence[str],
        speakers: int,
        clips_per_word: int,
        seed: int,
        difficulty: float = 1.5,
    ) -> SyntheticCorpus:
        """Return the corpus of `words` said `clips_per_word` times by each of `speakers`.

        Raises:
            CorpusError: if a word is not in `LEXICON` or given twice, or a number is out of range.
        """
        labels = tuple(words)
        _check(labels, speakers, clips_per_word, seed, difficulty)
        difficulty = float(difficulty)
        identity = [SYNTHESIS_VERSION, list(labels), speakers, clips_per_word, seed, difficulty]
        return cls(
            labels=labels,
            speakers=speakers,
            clips_per_word=clips_per_word,
            seed=seed,
            difficulty=difficulty,
            fingerprint=sha256(json.dumps(["synthetic", *identity]).encode()).hexdigest(),
            clips=_index(labels, speakers, clips_per_word),
        )

    def waveform(self, row: int) -> NDArray[np.float32]:
        """Synthesise row `row` of `clips`: float32 [16000] in [-1, 1] at 16 kHz."""
        from fnl.data.synthesis.speaker import synthesise_clip  # noqa: PLC0415 not where it is cached

        word, _, utterance = self.clips["clip"][row].partition("/")
        speaker, _, repetition = utterance.partition("_")
        return synthesise_clip(self.seed, int(speaker), word, int(repetition), self.difficulty)


def _index(labels: tuple[str, ...], speakers: int, clips_per_word: int) -> pl.DataFrame:
    """Return the table of all clips, sorted by name. No clip becomes an object of Python's."""
    words = pl.DataFrame({"word": labels, "label": range(len(labels))})
    people = pl.DataFrame({"number": range(speakers)}).with_columns(
        padded=pl.col("number").cast(pl.String).str.zfill(4),
        split=pl.Series([split_of_speaker(number) for number in range(speakers)]),
    )
    repetitions = pl.DataFrame({"repetition": range(clips_per_word)})
    clips = words.join(people, how="cross").join(repetitions, how="cross")
    return clips.select(
        clip=pl.format("{}/{}_{}", "word", "padded", "repetition"),
        label=pl.col("label").cast(pl.Int32),
        speaker=pl.format("synthetic-{}", "padded"),
        split="split",
    ).sort("clip")


def _check(
    labels: tuple[str, ...], speakers: int, clips_per_word: int, seed: int, difficulty: float
) -> None:
    """Raise CorpusError for the first parameter that makes no corpus."""
    if not labels:
        raise CorpusError(f"a synthetic corpus needs at least one word of: {' '.join(LEXICON)}")
    for word in labels:
        if word not in LEXICON:
            raise CorpusError(
                f"the synthesiser cannot say {word!r}; its words are: {' '.join(LEXICON)}"
            )
        if labels.count(word) > 1:
            raise CorpusError(f"the word {word!r} is given {labels.count(word)} times, not once")
    if speakers < MINIMUM_SPEAKERS:
        raise CorpusError(
            f"a synthetic corpus needs at least {MINIMUM_SPEAKERS} speakers, of which one is for "
            f"validation and one for testing; got {speakers}"
        )
    if clips_per_word < 1:
        raise CorpusError(f"clips per word must be at least 1, got {clips_per_word}")
    if seed < 0:
        raise CorpusError(f"the seed of a synthetic corpus must not be negative, got {seed}")
    if not (isfinite(difficulty) and 0 <= difficulty <= MAXIMUM_DIFFICULTY):
        raise CorpusError(f"difficulty must lie in 0 to {MAXIMUM_DIFFICULTY:g}, got {difficulty}")
