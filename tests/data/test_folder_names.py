"""Folder corpora as people have them: other names, other formats, things that are no clips."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fnl.config import Config, DataGroup
from fnl.data.audio import ClipError, read_clip
from fnl.data.features import FeatureSpec
from fnl.data.federated import few_clips_warnings, prepare
from fnl.data.folder import FolderCorpus
from fnl.data.store import build_features
from fnl.errors import CorpusError, FnlError

TONE = (0.5 * np.sin(np.arange(16000) / 5)).astype(np.float32)


def write(root: Path, *paths: str, **options: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, TONE, 16000, **options)
    return root


def spoken_digits(root: Path) -> Path:
    """As the Free Spoken Digit Dataset: `<digit>/<digit>_<speaker>_<number>.wav`."""
    speakers = ("jackson", "nicolas", "theo", "yweweler", "george", "lucas")
    return write(root, *(f"{d}/{d}_{s}_{k}.wav" for d in range(4) for s in speakers for k in (0,)))


def test_a_label_that_is_taken_for_its_speaker_has_no_training_clips(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"label '.' .* no training clips.*speaker-pattern"):
        FolderCorpus.create(spoken_digits(tmp_path))


def test_a_pattern_or_a_list_says_who_speaks(tmp_path: Path) -> None:
    root = spoken_digits(tmp_path / "digits")
    by_pattern = FolderCorpus.create(root, speaker_pattern=r"_([a-z]+)_\d+\.wav$")
    assert set(by_pattern.clips["speaker"]) >= {"jackson", "theo"}
    train = by_pattern.clips.filter(split="train")
    assert set(train["label"]) == {0, 1, 2, 3}
    lines = [f"{clip}\t{clip.split('_')[1]}" for clip in by_pattern.clips["clip"]]
    (root / "speakers.tsv").write_text("\n".join(lines))
    by_list = FolderCorpus.create(root, speaker_pattern="speakers.tsv")
    assert by_list.clips.equals(by_pattern.clips)
    # another reading of the same files is another corpus: caches must not be mixed up
    other = FolderCorpus.create(root, speaker_pattern=r"_([a-z])[a-z]*_\d+\.wav$")
    assert other.fingerprint != by_pattern.fingerprint


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"_(\d+", "no regular expression"),
        (r"_\(x", "has no group"),
        ("nowhere.tsv", "cannot read"),
        (r"(zzz)", "finds no speaker in 0/0_george_0.wav"),
    ],
)
def test_a_pattern_that_does_not_fit_is_one_line(tmp_path: Path, pattern: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        FolderCorpus.create(spoken_digits(tmp_path), speaker_pattern=pattern)


def test_a_list_that_lacks_a_clip_names_it(tmp_path: Path) -> None:
    (spoken_digits(tmp_path) / "who.csv").write_text("0/0_george_0.wav,george\n")
    with pytest.raises(CorpusError, match=r"who.csv has no line for 0/0_jackson_0.wav"):
        FolderCorpus.create(tmp_path, speaker_pattern="who.csv")
    (tmp_path / "who.csv").write_text("0/0_george_0.wav\n")
    with pytest.raises(CorpusError, match=r"who.csv, line 1"):
        FolderCorpus.create(tmp_path, speaker_pattern="who.csv")


@pytest.mark.parametrize("other", ["no/1_a.m4a", "no/deeper/1_a.wav", "no/README"])
def test_a_label_of_what_is_not_read_does_not_vanish(tmp_path: Path, other: str) -> None:
    root = write(tmp_path, *(f"{label}/{s}_0.wav" for label in ("yes", "go") for s in range(12)))
    (root / other).parent.mkdir(parents=True)
    (root / other).write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"no has no audio that can be read, but 1 .*_no"):
        FolderCorpus.create(root)
    assert FolderCorpus.create(root, words="yes,go").labels == ("yes", "go")
    (root / "no").rename(root / "_no")
    assert FolderCorpus.create(root).labels == ("go", "yes")


def test_what_is_left_out_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path / "c", *(f"{w}/{s}_0.wav" for w in ("yes", "go", "no") for s in range(9)))
    (root / "yes/a.txt").write_text("x")
    (root / "yes/deeper").mkdir()
    corpus = FolderCorpus.create(root, words="yes,go")
    assert corpus.left_out == (
        "yes: 1 .txt files (not read as audio), 1 folders (clips lie in <label>/, not deeper)",
        "no: 9 clips, as it is none of the labels",
    )
    data = DataGroup(
        corpus="folder", root=str(root), words="yes,go", clients=2, cache_dir=str(tmp_path / "k")
    )
    with caplog.at_level(logging.WARNING):
        federation = prepare(Config(data=data), workers=1, progress=True)
    assert "9 clips, as it is none of the labels" in caplog.text
    (few,) = few_clips_warnings(federation.store, "test")
    assert re.fullmatch(r"accuracy will be of \d test clips, with [12] of 2 labels", few)


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "opus", "aiff", "au", "caf", "w64"])
def test_formats_of_libsndfile_are_read(tmp_path: Path, suffix: str) -> None:
    options = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(suffix, {})
    path = write(tmp_path, f"a.{suffix}", **options) / f"a.{suffix}"
    clip = read_clip(path)
    spectrum = np.abs(np.fft.rfft(clip))
    assert spectrum.argmax() == pytest.approx(16000 / (2 * np.pi * 5), abs=2)  # the same tone


def test_gsm_in_a_wav_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", TONE[:8000], 8000, subtype="GSM610")
    assert np.abs(read_clip(tmp_path / "a.wav")).max() > 0.2


@pytest.mark.parametrize("content", [b"", b"RIFF", b"ID3" + bytes(200), bytes(range(256)) * 9])
@pytest.mark.parametrize("suffix", ["wav", "mp3", "au", "voc", "sph", "caf"])
def test_whatever_is_wrong_with_audio_is_one_kind_of_error(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    try:  # some decoders take some of these for sound
        clip = read_clip(path)
    except ClipError:
        clip = np.zeros(16000, np.float32)
    assert np.isfinite(clip).all()


class Failing(FolderCorpus):
    def waveform(self, row: int) -> np.ndarray:
        if row == 3:
            raise KeyError("a decoder's own kind of error")
        return super().waveform(row)


def test_every_failure_names_its_file_and_can_be_skipped(tmp_path: Path) -> None:
    root = write(tmp_path / "c", *(f"{w}/{s}_0.wav" for w in ("yes", "go") for s in range(12)))
    made = FolderCorpus.create(root)
    corpus = Failing(root, made.labels, made.clips, "failing")
    with pytest.raises(FnlError, match=rf"{corpus.clips['clip'][3]} \(KeyError"):
        build_features(corpus, FeatureSpec(), tmp_path / "k", workers=1)
    store = build_features(corpus, FeatureSpec(), tmp_path / "k", workers=1, on_bad_audio="skip")
    assert store.skipped == 1
