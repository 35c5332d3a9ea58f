"""Audio files become one second of 16 kHz mono, or a reason why not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from fnl.data.audio import read_clip, read_cut
from fnl.data.corpus import ClipError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_one_second_at_16_khz_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    soundfile.write(path, tone(1, 16000), 16000)
    clip = read_clip(path)
    assert clip.shape == (16000,)
    assert clip.dtype == np.float32
    np.testing.assert_array_equal(clip, soundfile.read(path, dtype="float32")[0])


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(1, 16000), tone(1, 16000, 1000.0)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("seconds", [1.0, 3.7])
def test_other_rates_are_resampled_as_scipy_does(tmp_path: Path, rate: int, seconds: float) -> None:
    audio = tone(seconds, rate)
    soundfile.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
    clip = read_clip(tmp_path / "a.wav")
    start = (len(audio) - rate) // 2
    expected = resample_poly(audio, 16000, rate)[round(start / rate * 16000) :][:16000]
    assert clip.shape == (16000,)
    inner = slice(200, -200)  # the filters differ at the edges of the file
    lag_samples = 1  # the middle second starts between two samples of the other rate
    error = min(
        np.abs(clip[inner] - np.roll(expected, lag)[inner]).max()
        for lag in range(-lag_samples, lag_samples + 1)
    )
    assert error < (0.01 if seconds == 1.0 else 0.12)


def test_short_audio_is_padded_at_both_ends_and_long_audio_cropped(tmp_path: Path) -> None:
    short, long = np.full(999, 0.25, "f4"), np.arange(40001, dtype="f4") / 40001
    for name, audio in (("short", short), ("long", long)):
        soundfile.write(tmp_path / f"{name}.wav", audio, 16000, subtype="FLOAT")
    padded = read_clip(tmp_path / "short.wav")
    assert np.flatnonzero(padded)[[0, -1]].tolist() == [7500, 7500 + 998]
    np.testing.assert_array_equal(read_clip(tmp_path / "long.wav"), long[12000:28000])


def test_slightly_overdriven_float_audio_is_limited(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 3 * tone(1, 16000), 16000, subtype="FLOAT")
    assert np.abs(read_clip(tmp_path / "a.wav")).max() == 1.0


def cut_file(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("share", [0.999, 0.5])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16000)
    path = tmp_path / f"clip{suffix}"
    soundfile.write(path, noise, 16000)
    cut_file(path, share)
    with pytest.raises(ClipError, match=r"truncated|lost sync"):
        read_clip(path)


def test_a_wav_from_a_pipe_with_an_unknown_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(1, 16000), 16000)
    expected, content = read_clip(path), bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_clip(path), expected)


def test_unusable_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    cases: list[tuple[str, np.ndarray, int, str]] = [
        ("FLOAT", np.array([0.1, np.nan, 0.1]), 16000, "NaN or infinite"),
        ("FLOAT", np.array([0.1, np.inf, 0.1]), 16000, "NaN or infinite"),
        ("FLOAT", np.array([0.1, 30000.0, 0.1]), 16000, "samples reach 30000"),
        ("PCM_16", np.zeros(0), 16000, "empty"),
        ("PCM_16", np.zeros(100), 44101, "44101 Hz has no practical ratio"),
    ]
    for subtype, audio, rate, reason in cases:
        soundfile.write(path, audio, rate, subtype=subtype)
        with pytest.raises(ClipError, match=reason):
            read_clip(path)
    for content in (b"", b"hello, I am text\n" * 100, b"RIFF\x10\0\0\0WAVE"):
        path.write_bytes(content)
        with pytest.raises(ClipError, match="unreadable") as failure:
            read_clip(path)
        assert str(tmp_path) not in str(failure.value)
        assert "\n" not in str(failure.value)
    with pytest.raises(ClipError, match="no such file"):
        read_clip(tmp_path / "gone.wav")


def test_nan_far_from_the_middle_of_a_long_file_is_found(tmp_path: Path) -> None:
    audio = tone(20, 16000)
    audio[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    with pytest.raises(ClipError, match="NaN"):
        read_clip(tmp_path / "a.wav")


def test_a_cut_is_the_second_from_its_first_sample(tmp_path: Path) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, 40000).astype("f4")
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_cut(tmp_path / "a.wav", 24000), audio[24000:])
    with pytest.raises(ClipError, match="ends 1 samples before"):
        read_cut(tmp_path / "a.wav", 24001)
    soundfile.write(tmp_path / "b.wav", audio, 8000)
    with pytest.raises(ClipError, match="8000 Hz"):
        read_cut(tmp_path / "b.wav", 0)


def test_torchaudio_is_imported_from_many_threads_in_a_fresh_process_without_a_warning() -> None:
    program = (
        "import threading, sys\n"
        "modules = []\n"
        "def load():\n"
        "    from fnl.data.torchaudio_cpu import torchaudio\n"
        "    modules.append(torchaudio)\n"
        "threads = [threading.Thread(target=load) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(modules) == 4 and all(m is sys.modules['torchaudio'] for m in modules)\n"
        "print(modules[0].transforms.MelSpectrogram.__name__)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "MelSpectrogram", result.stderr
