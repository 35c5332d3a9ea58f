"""A synthetic corpus of the size of Speech Commands v0.02: 105,829 clips by 2,618 speakers.

As many clips, words and speakers in every split, and speakers with few clips and with many: how
many is drawn from a log-normal distribution, which is our choice. A configuration names it:
`data.corpus = benchmarks.full_size:keywords`.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.config import DataGroup
from fnl.data.corpus import CLIP_SCHEMA, TEST, TRAIN, VALIDATION
from fnl.data.synthetic import LEXICON, SyntheticCorpus
from fnl.randomness import Purpose, stream

SIZES = {TRAIN: (2_112, 84_843), VALIDATION: (256, 9_981), TEST: (250, 11_005)}
"""Speakers and clips of each split, as in Speech Commands v0.02."""

FEWEST = 2
"""Clips of a speaker."""

SPREAD = 1.0
"""Standard deviation of the logarithm of a speaker's clips beyond `FEWEST`."""

VERSION = 1
"""Part of the fingerprint: raise it with any change of the clips."""


def keywords(data: DataGroup) -> SyntheticCorpus:
    """Return the corpus; of `data` only `corpus-seed` and `difficulty` count."""
    words, speakers = tuple(LEXICON), sum(speakers for speakers, _ in SIZES.values())
    whole = SyntheticCorpus.create(
        words, speakers, clips_per_word=1, seed=data.corpus_seed, difficulty=data.difficulty
    )
    identity = f"full-size {VERSION} {whole.fingerprint}"
    return replace(
        whole,
        clips=_index(words, stream(data.corpus_seed, Purpose.SPLIT)),
        fingerprint=sha256(identity.encode()).hexdigest(),
    )


def clips_of_speakers(
    speakers: int, clips: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return how many clips each speaker has, int64 [speakers]: `clips` together."""
    shares = np.exp(SPREAD * generator.standard_normal(speakers))
    ends = np.cumsum(shares) * (clips - FEWEST * speakers) / shares.sum()
    return FEWEST + np.diff(np.round(ends).astype(np.int64), prepend=0)


def _index(words: tuple[str, ...], generator: np.random.Generator) -> pl.DataFrame:
    """Return the table of all clips: every speaker says all words before one again."""
    rows, number = [], 0
    for split, (speakers, clips) in SIZES.items():
        for count in clips_of_speakers(speakers, clips, generator):
            passes = -(-int(count) // len(words))
            order = np.concatenate([generator.permutation(len(words)) for _ in range(passes)])
            rows += [
                (f"{words[label]}/{number:04}_{nth // len(words)}", label, f"{number:04}", split)
                for nth, label in enumerate(order[:count].tolist())
            ]
            number += 1
    return pl.DataFrame(rows, schema=CLIP_SCHEMA, orient="row").sort("clip")
