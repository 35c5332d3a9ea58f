"""What every corpus looks like: clips with a label, a speaker and a split.

A corpus is an index (a polars table, one row a clip) and a way to read one row's audio. It reads
no audio before it is asked to, and it can be sent to another process.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples a second, in Hz, of every waveform that a corpus hands out."""

CLIP_SAMPLES = 16_000
"""Samples of every waveform: exactly one second."""

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
SPLITS = (TRAIN, VALIDATION, TEST)

CLIP_SCHEMA = {"clip": pl.String, "label": pl.Int32, "speaker": pl.String, "split": pl.String}
"""Columns of `Corpus.clips`: a unique name, an index into `labels`, the speaker, the split."""


class ClipError(Exception):
    """One clip that cannot be used. `str(error)` is the reason, without the clip's content."""


@runtime_checkable
class Corpus(Protocol):
    """Labelled utterances of at most one second."""

    @property
    def name(self) -> str:
        """Name in figures and tables, e.g. "synthetic"."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names; `clips["label"]` indexes them."""
        ...

    @property
    def clips(self) -> pl.DataFrame:
        """One row a clip with the columns of `CLIP_SCHEMA`, sorted by `clip`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the audio and the index."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether the audio is synthesised; results must then say so."""
        ...

    def waveform(self, row: int) -> NDArray[np.float32]:
        """Return the audio of row `row` of `clips`: float32 [16000] in [-1, 1] at 16 kHz.

        Shorter audio is zero-padded at both ends, longer audio cropped to its middle second.

        Raises:
            ClipError: if the audio is unreadable, truncated, empty, or not finite.
        """
        ...
