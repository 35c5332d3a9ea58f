"""A user's own folder of recordings."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from fnl.data.corpus import CLIP_SCHEMA, Corpus
from fnl.data.folder import FolderCorpus
from fnl.errors import CorpusError


def make(root: Path, labels: str = "bark meow", speakers: int = 10, takes: int = 2) -> Path:
    for label in labels.split():
        (root / label).mkdir(parents=True, exist_ok=True)
        for speaker in range(speakers):
            for take in range(takes):
                path = root / label / f"s{speaker}_take_{take}.wav"
                soundfile.write(path, np.full(4000, 0.1 * speaker / speakers), 8000)
    return root


def test_labels_speakers_and_a_speaker_disjoint_split(tmp_path: Path) -> None:
    corpus = FolderCorpus.create(make(tmp_path, speakers=20), seed=3)
    assert isinstance(corpus, Corpus)
    assert corpus.labels == ("bark", "meow")
    assert corpus.clips.schema == pl.Schema(CLIP_SCHEMA)
    assert corpus.clips.height == 2 * 20 * 2
    per_split = corpus.clips.group_by("split").agg(pl.col("speaker").n_unique())
    assert dict(per_split.rows()) == {"train": 16, "validation": 2, "test": 2}
    assert corpus.clips.group_by("speaker").agg(pl.col("split").n_unique())["split"].max() == 1
    assert all(
        clip == f"{corpus.labels[label]}/{speaker}_{clip.partition('_')[2]}"
        for clip, label, speaker, _ in corpus.clips.rows()
    )


def test_the_split_is_decided_by_the_seed(tmp_path: Path) -> None:
    make(tmp_path)
    splits = [FolderCorpus.create(tmp_path, seed=seed).clips["split"] for seed in (0, 0, 1, 2, 3)]
    assert splits[0].equals(splits[1])
    assert any(not splits[0].equals(other) for other in splits[2:])
    three = make(tmp_path / "three", speakers=3)
    assert FolderCorpus.create(three).clips.group_by("split").agg(pl.col("speaker").n_unique())[
        "speaker"
    ].to_list() == [1, 1, 1]


def test_every_format_rate_and_name_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    for name, rate in (("solo.FLAC", 44100), ("duo_1.ogg", 48000)):
        soundfile.write(tmp_path / "bark" / name, np.zeros((rate * 2, 2)), rate)
    for ignored in ("notes.txt", ".hidden_1.wav"):
        (tmp_path / "bark" / ignored).write_text("no audio")
    (tmp_path / "_background_noise_").mkdir()
    soundfile.write(tmp_path / "_background_noise_" / "hum.wav", np.zeros(100), 16000)
    corpus = FolderCorpus.create(tmp_path)
    assert {"solo", "duo"} < set(corpus.clips["speaker"])
    assert corpus.clips.height == 2 * 10 * 2 + 2
    assert {corpus.waveform(row).shape for row in range(corpus.clips.height)} == {(16000,)}


def test_list_files_decide_the_split(tmp_path: Path) -> None:
    make(tmp_path, labels="bark meow moo", speakers=2)
    (tmp_path / "validation_list.txt").write_text("bark/s0_take_0.wav\r\n\n./meow/s0_take_1.wav\n")
    (tmp_path / "testing_list.txt").write_text("meow/s1_take_1.wav\nmoo/s0_take_0.wav")
    corpus = FolderCorpus.create(tmp_path, words="meow,bark")
    assert corpus.labels == ("meow", "bark")
    held_out = corpus.clips.filter(pl.col("split") != "train").select("clip", "split")
    assert held_out.rows() == [
        ("bark/s0_take_0.wav", "validation"),
        ("meow/s0_take_1.wav", "validation"),
        ("meow/s1_take_1.wav", "test"),
    ]
    assert corpus.clips.height == 8


def test_mistakes_are_one_line_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no folder .*nowhere: correct data\.root"):
        FolderCorpus.create(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="no <label>/<speaker>"):
        FolderCorpus.create(tmp_path)
    with pytest.raises(CorpusError, match="only one label, 'bark'"):
        FolderCorpus.create(make(tmp_path / "one", labels="bark"))
    with pytest.raises(CorpusError, match=r"2 speakers in .* \(s0, s1\)"):
        FolderCorpus.create(make(tmp_path / "few", speakers=2))
    root = make(tmp_path / "lists")
    with pytest.raises(CorpusError, match=r"no clips of 'moo' in .*, which has bark, meow"):
        FolderCorpus.create(root, words="bark,moo")
    (root / "validation_list.txt").write_text("bark/gone_1.wav\n../lists/bark/s0_take_0.wav\n")
    with pytest.raises(CorpusError, match=r"has validation_list.txt only"):
        FolderCorpus.create(root)
    (root / "testing_list.txt").write_text("bark/s0_take_0.wav\n")
    with pytest.raises(CorpusError, match=r"names 2 files that are not there: .*gone_1.wav"):
        FolderCorpus.create(root)
    (root / "validation_list.txt").write_text("bark/s0_take_0.wav\n")
    with pytest.raises(CorpusError, match=r"both list files .* name bark/s0_take_0.wav"):
        FolderCorpus.create(root)
    (root / "validation_list.txt").write_text("")
    with pytest.raises(CorpusError, match="no validation clips"):
        FolderCorpus.create(root)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_out_of_the_root_is_refused_and_one_within_is_not(tmp_path: Path, what: str) -> None:
    root, outside = make(tmp_path / "root"), make(tmp_path / "outside")
    (root / "meow" / "alias_1.wav").symlink_to(root / "bark" / "s0_take_0.wav")
    assert FolderCorpus.create(root).clips.height == 41
    if what == "file":
        (root / "bark" / "x_1.wav").symlink_to(outside / "bark" / "s0_take_0.wav")
    else:
        (root / "moo").symlink_to(outside / "bark")
    with pytest.raises(CorpusError, match="is a link out of"):
        FolderCorpus.create(root)


def test_fingerprint_follows_content_times_seed_and_words(tmp_path: Path) -> None:
    make(tmp_path, labels="bark meow moo")
    original = FolderCorpus.create(tmp_path).fingerprint
    assert FolderCorpus.create(tmp_path).fingerprint == original
    assert FolderCorpus.create(tmp_path, seed=1).fingerprint != original
    assert FolderCorpus.create(tmp_path, words="bark,meow").fingerprint != original
    os.utime(tmp_path / "bark" / "s0_take_0.wav", ns=(1, 1))
    touched = FolderCorpus.create(tmp_path).fingerprint
    (tmp_path / "bark" / "s0_take_0.wav").rename(tmp_path / "bark" / "s0_take_9.wav")
    renamed = FolderCorpus.create(tmp_path).fingerprint
    assert len({original, touched, renamed}) == 3
