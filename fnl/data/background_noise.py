"""One-second cuts of long noise recordings: the `silence` of Speech Commands."""

from __future__ import annotations

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


def silence_clips(
    folder: Path, files: Mapping[str, FileStamp], counts: Mapping[str, int], seed: int
) -> pl.DataFrame:
    """Draw cuts of the noise recordings at distinct positions, uniformly over all positions.

    Args:
        folder: the data set's folder.
        files: the files in it; those in `_background_noise_` are used.
        counts: cuts of each split.
        seed: decides the positions.

    Returns:
        Columns clip (`_background_noise_/<file>#<first sample>`), speaker and split.

    Raises:
        CorpusError: if there are no recordings, one of them is unreadable or not at 16 kHz, or
            all are too short for the cuts.
    """
    frames = {name: _frames(folder / name) for name in files if name.startswith(f"{NOISE_FOLDER}/")}
    rows: list[tuple[str, str, str]] = []
    for number, split in enumerate(SPLITS):
        positions = _positions(frames, split)
        available = sum(len(starts) for _, starts in positions)
        if available < counts[split]:
            raise CorpusError(
                f"data.words = 'twelve' needs {counts[split]} {split} cuts of silence, but the "
                f"recordings in {folder / NOISE_FOLDER} have room for {available}"
            )
        generator = stream(seed, Purpose.SILENCE, number)
        drawn = np.sort(generator.choice(available, counts[split], replace=False))
        for name, starts in positions:
            mine, drawn = drawn[drawn < len(starts)], drawn[drawn >= len(starts)] - len(starts)
            rows += [(f"{name}#{starts[position]}", SPEAKER, split) for position in mine]
    return pl.DataFrame(
        rows, schema={"clip": pl.String, "speaker": pl.String, "split": pl.String}, orient="row"
    )


def cut_position(clip: str) -> tuple[str, int] | None:
    """Return the recording and the first sample that a cut's name states; None for a whole file."""
    name, mark, start = clip.rpartition("#")
    if not mark or not clip.startswith(f"{NOISE_FOLDER}/"):
        return None
    return name, int(start)


def _positions(frames: Mapping[str, int], split: str) -> list[tuple[str, range]]:
    """Return every recording's possible first samples of a cut within its stretch of a split."""
    begin, end = STRETCHES[split]
    return [
        (name, range(int(begin * total), int(end * total) - CLIP_SAMPLES + 1))
        for name, total in frames.items()
    ]


def _frames(path: Path) -> int:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise CorpusError(f"{path} is unreadable: {error.error_string}") from error
    if info.samplerate != SAMPLE_RATE:
        raise CorpusError(f"{path} is at {info.samplerate} Hz, not at {SAMPLE_RATE} Hz")
    return info.frames
