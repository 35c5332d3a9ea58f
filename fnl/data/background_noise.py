"""One-second cuts of long noise recordings: the `silence` of Speech Commands.

No two cuts share a sample. Clips of different clients have to be different data: a sample that two
of them hold would cost both clients' ε, where each states its own (docs/privacy.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from fnl.data.audio_files import FileStamp
from fnl.data.corpus import CLIP_SAMPLES, SAMPLE_RATE, SPLITS, TEST, TRAIN, VALIDATION
from fnl.errors import CorpusError
from fnl.randomness import Purpose, stream

NOISE_FOLDER = "_background_noise_"
SPEAKER = "background-noise"

STRETCHES = {TRAIN: (0.0, 0.8), VALIDATION: (0.8, 0.9), TEST: (0.9, 1.0)}
"""Part of every recording that a split is cut from: no sample is in two splits."""

_logger = logging.getLogger(__name__)


def silence_clips(
    folder: Path, files: Mapping[str, FileStamp], counts: Mapping[str, int], seed: int
) -> pl.DataFrame:
    """Draw cuts of the noise recordings that share no sample.

    A recording's stretch of a split falls into whole seconds, from a random start; of all these
    seconds as many as are wanted are drawn, or all, with a warning, if they are fewer.

    Args:
        folder: the data set's folder.
        files: the files in it; those in `_background_noise_` are used.
        counts: cuts wanted of each split.
        seed: decides where the seconds start, and which are drawn.

    Returns:
        Columns clip (`_background_noise_/<file>#<first sample>`), speaker and split.

    Raises:
        CorpusError: if there are no recordings, one of them is unreadable or not at 16 kHz, or
            a split that wants cuts has not a second.
    """
    frames = {name: _frames(folder / name) for name in files if name.startswith(f"{NOISE_FOLDER}/")}
    rows: list[tuple[str, str, str]] = []
    for number, split in enumerate(SPLITS):
        generator = stream(seed, Purpose.SILENCE, number)
        seconds = [
            (name, start)
            for name, total in frames.items()
            for start in _seconds(total, split, generator)
        ]
        if counts[split] and not seconds:
            raise CorpusError(
                f"data.words = 'twelve' needs {counts[split]} {split} cuts of silence, but no "
                f"recording in {folder / NOISE_FOLDER} has a second for them"
            )
        if len(seconds) < counts[split]:
            _logger.warning(
                "the recordings in %s have %d %s cuts of silence without a common sample, not %d",
                *(folder / NOISE_FOLDER, len(seconds), split, counts[split]),
            )
        count = min(counts[split], len(seconds))
        drawn = np.sort(generator.choice(len(seconds), count, replace=False))
        cuts = [seconds[position] for position in drawn]
        rows += [(f"{name}#{start}", SPEAKER, split) for name, start in cuts]
    return pl.DataFrame(
        rows, schema={"clip": pl.String, "speaker": pl.String, "split": pl.String}, orient="row"
    )


def cut_position(clip: str) -> tuple[str, int] | None:
    """Return the recording and the first sample that a cut's name states; None for a whole file."""
    name, mark, start = clip.rpartition("#")
    if not mark or not clip.startswith(f"{NOISE_FOLDER}/"):
        return None
    return name, int(start)


def _seconds(frames: int, split: str, generator: np.random.Generator) -> range:
    """Return the first samples of the seconds of a recording's stretch of a split."""
    begin, end = (int(share * frames) for share in STRETCHES[split])
    spare = (end - begin) % CLIP_SAMPLES
    start = begin + int(generator.integers(spare + 1))
    return range(start, end - CLIP_SAMPLES + 1, CLIP_SAMPLES)


def _frames(path: Path) -> int:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise CorpusError(f"{path} is unreadable: {error.error_string}") from error
    if info.samplerate != SAMPLE_RATE:
        raise CorpusError(f"{path} is at {info.samplerate} Hz, not at {SAMPLE_RATE} Hz")
    return info.frames
