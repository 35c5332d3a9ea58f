"""Audio files of any rate, channels and length as one second of 16 kHz mono."""

from __future__ import annotations

import re
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from fnl.data.corpus import CLIP_SAMPLES, SAMPLE_RATE, ClipError
from fnl.data.torchaudio_cpu import torchaudio

SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au"}
    | {".snd", ".caf", ".w64", ".rf64", ".sph", ".voc"}
)
"""Suffixes, in lower case, of the files that are taken for audio: of formats that libsndfile reads
by their headers."""

_BLOCK_FRAMES = 65_536
_UNREADABLE = (soundfile.SoundFileError, OSError, ValueError, RuntimeError)
"""What soundfile raises of a file: its own, and Python's where libsndfile's answers do not fit."""
_LARGEST_KERNEL = 16_000_000  # elements: 64 MB of resampling filter
_LARGEST_PEAK = 2.0  # float files may exceed full scale, but by little
_UNKNOWN_LENGTH = 0x7FFF_F000  # what programs that write to a pipe promise: "until the end"

# libsndfile shortens a wav's data to what is there and notes it only in its log.
_SHORTENED_DATA = re.compile(r"^data\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


def read_clip(path: Path) -> NDArray[np.float32]:
    """Return a file's middle second: float32 [16000] in [-1, 1] at 16 kHz.

    Channels are averaged, other rates resampled, shorter audio zero-padded at both ends. The file
    is read to its end, whatever its length, with the memory of about one second.

    Raises:
        ClipError: if the audio is unreadable, truncated, empty, not finite, far beyond full scale,
            or of a rate without a practical ratio to 16 kHz.
    """
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(file, path)
            mono, rate = _read_middle(file), file.samplerate
    except _UNREADABLE as error:
        raise ClipError(_reason(error, path)) from error
    return fit_to_clip(resample(mono, rate))


def read_cut(path: Path, start: int) -> NDArray[np.float32]:
    """Return one second of a 16 kHz mono file from sample `start` on: float32 [16000].

    Raises:
        ClipError: if the file is unreadable, of another rate, or ends before the second does.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE:
                raise ClipError(f"rate is {file.samplerate} Hz, not {SAMPLE_RATE} Hz")
            file.seek(start)
            cut = _to_mono(file.read(CLIP_SAMPLES, dtype="float32", always_2d=True))
    except _UNREADABLE as error:
        raise ClipError(_reason(error, path)) from error
    if len(cut) < CLIP_SAMPLES:
        raise ClipError(f"ends {CLIP_SAMPLES - len(cut)} samples before the second does")
    return np.clip(cut, -1.0, 1.0)


def resample(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return mono audio of `rate` Hz at 16 kHz: float32 [n] -> float32 [about n * 16000 / rate]."""
    if rate == SAMPLE_RATE:
        return mono
    return _resampler(rate)(torch.from_numpy(mono)).numpy()


def fit_to_clip(mono: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle 16000 samples, zero-padded at both ends if there are fewer, in [-1, 1]."""
    if (missing := CLIP_SAMPLES - len(mono)) > 0:
        mono = np.pad(mono, (missing // 2, missing - missing // 2))
    start = (len(mono) - CLIP_SAMPLES) // 2
    mono = mono[start : start + CLIP_SAMPLES]
    return np.clip(mono, -1.0, 1.0)


@lru_cache(maxsize=16)
def _resampler(rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, SAMPLE_RATE)


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    """Refuse a file that is empty, cut short, or of a rate that cannot be resampled."""
    shortened = _SHORTENED_DATA.search(file.extra_info)
    if shortened and int(shortened[2]) < int(shortened[1]) < _UNKNOWN_LENGTH:
        raise ClipError(f"truncated: {shortened[2]} of {shortened[1]} bytes of audio")
    if file.format == "OGG" and not _ends_with_last_ogg_page(path):
        raise ClipError("truncated: its last Ogg page is missing or incomplete")
    if file.frames == 0:
        raise ClipError("empty: no audio frames")
    divisor = gcd(file.samplerate, SAMPLE_RATE)
    if (file.samplerate // divisor) * (SAMPLE_RATE // divisor) > _LARGEST_KERNEL:
        raise ClipError(f"a rate of {file.samplerate} Hz has no practical ratio to 16000 Hz")


def _read_middle(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """Return the middle second, and a margin for the resampling filter, in mono: float32 [n]."""
    margin = file.samplerate // 20
    start = max((file.frames - file.samplerate) // 2 - margin, 0)
    stop = min(start + file.samplerate + 2 * margin, file.frames)
    position, kept = 0, []
    # by `read`, as `blocks` refuses what cannot be sought in (GSM 6.10)
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise ClipError("NaN or infinite samples")
        if (peak := float(np.abs(block).max(initial=0.0))) > _LARGEST_PEAK:
            raise ClipError(f"samples reach {peak:.6g}, far outside of [-1, 1]")
        kept.append(_to_mono(block[max(start - position, 0) : max(stop - position, 0)]))
        position += len(block)
    if position < file.frames:
        raise ClipError(f"truncated: {position} of {file.frames} frames")
    return np.concatenate(kept)


def _to_mono(block: NDArray[Any]) -> NDArray[np.float32]:
    """Average the channels: float32 [n, channels] -> float32 [n]."""
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def _ends_with_last_ogg_page(path: Path) -> bool:
    """Say whether a file's last Ogg page (RFC 3533, section 6) is whole and flagged as the last."""
    largest_page = 27 + 255 + 255 * 255
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - largest_page, 0))
        tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    end_of_stream = bool(page[5] & 4)
    return end_of_stream and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _reason(error: Exception, path: Path) -> str:
    """Return why a file cannot be read, in one line without the path."""
    if not path.is_file():
        return "unreadable: no such file"
    said = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return f"unreadable: {' '.join(said.split()).rstrip('.')}"
