"""Speech Commands: its own split, its words, unknown and silence; fetched only whole and true."""

import hashlib
import io
import os
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from fnl.data.audio_files import scan_audio
from fnl.data.background_noise import STRETCHES, silence_clips
from fnl.data.corpus import CLIP_SCHEMA, Corpus
from fnl.data.speech_commands import SpeechCommandsCorpus, dataset_folder
from fnl.data.speech_commands_archive import download
from fnl.data.words import CORE_WORDS
from fnl.errors import CorpusError

WORDS = (*CORE_WORDS, "marvin", "bed")
SPEAKERS = {"0000000a": "train", "0000000b": "validation", "0000000c": "test"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small data set: twelve words, three speakers, two takes, two noise recordings."""
    folder = dataset_folder(tmp_path)
    generator = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for word in WORDS:
        (folder / word).mkdir(parents=True)
        for speaker, split in SPEAKERS.items():
            for take in range(2):
                name = f"{word}/{speaker}_nohash_{take}.wav"
                soundfile.write(folder / name, generator.uniform(-0.1, 0.1, 16000), 16000)
                lists[split].append(name)
    (folder / "validation_list.txt").write_text("\n".join(lists["validation"]) + "\n")
    (folder / "testing_list.txt").write_text("\n".join(lists["test"]) + "\n")
    (folder / "_background_noise_").mkdir()
    for name in ("hum", "tap"):
        noise = generator.uniform(-0.1, 0.1, 16000 * 12)
        soundfile.write(folder / "_background_noise_" / f"{name}.wav", noise, 16000)
    return tmp_path


def test_words_speakers_and_splits_are_those_of_the_files(root: Path) -> None:
    corpus = SpeechCommandsCorpus.create(root, "core", 0)
    assert isinstance(corpus, Corpus)
    assert corpus.labels == CORE_WORDS
    assert corpus.clips.schema == pl.Schema(CLIP_SCHEMA)
    assert corpus.clips["clip"].is_sorted()
    assert corpus.clips["clip"].is_unique().all()
    assert not corpus.synthetic
    for clip, label, speaker, split in corpus.clips.rows():
        word, name = clip.split("/")
        assert corpus.labels[label] == word
        assert name.startswith(f"{speaker}_nohash_")
        assert split == SPEAKERS[speaker]
    assert corpus.clips.height == 10 * 3 * 2


def test_waveform_is_the_row_s_file_also_after_pickling(root: Path) -> None:
    corpus = pickle.loads(  # noqa: S301 - made here
        pickle.dumps(SpeechCommandsCorpus.create(root, "yes,no", 0))
    )
    for row, clip in enumerate(corpus.clips["clip"]):
        expected = soundfile.read(dataset_folder(root) / clip, dtype="float32")[0]
        np.testing.assert_array_equal(corpus.waveform(row), expected)


def test_choices_of_words(root: Path) -> None:
    assert SpeechCommandsCorpus.create(root, "all", 0).labels == tuple(sorted(WORDS))
    chosen = SpeechCommandsCorpus.create(root, "no, marvin,yes", 0)
    assert chosen.labels == ("no", "marvin", "yes")
    assert chosen.clips.height == 3 * 3 * 2


def test_twelve_has_as_many_unknown_and_silence_clips_as_a_core_word(root: Path) -> None:
    corpus = SpeechCommandsCorpus.create(root, "twelve", 0)
    assert corpus.labels == (*CORE_WORDS, "unknown", "silence")
    counts = Counter(corpus.clips.select("label", "split").rows())
    assert set(counts.values()) == {2}
    assert len(counts) == 12 * 3
    unknown = corpus.clips.filter(label=10)
    assert {clip.split("/")[0] for clip in unknown["clip"]} <= {"marvin", "bed"}
    assert all(SPEAKERS[row["speaker"]] == row["split"] for row in unknown.iter_rows(named=True))
    silence = corpus.clips.filter(label=11)
    assert set(silence["speaker"]) == {"background-noise"}
    for clip, split in silence.select("clip", "split").iter_rows():
        begin, end = (share * 16000 * 12 for share in STRETCHES[split])
        start = int(clip.partition("#")[2])
        assert begin <= start <= end - 16000
        recording, _ = soundfile.read(dataset_folder(root) / clip.partition("#")[0], dtype="f4")
        row = corpus.clips["clip"].index_of(clip)
        assert row is not None
        np.testing.assert_array_equal(corpus.waveform(row), recording[start : start + 16000])


def test_twelve_is_decided_by_the_seed_alone(root: Path) -> None:
    first, again, other = (SpeechCommandsCorpus.create(root, "twelve", s) for s in (1, 1, 2))
    assert first.clips.equals(again.clips)
    assert first.fingerprint == again.fingerprint
    assert not first.clips.equals(other.clips)
    assert first.fingerprint != other.fingerprint


def test_fingerprint_follows_files_lists_and_words_but_not_the_place(root: Path) -> None:
    def digest(at: Path = root, words: str = "core") -> str:
        return SpeechCommandsCorpus.create(at, words, 0).fingerprint

    original, folder = digest(), dataset_folder(root)
    copy = root.parent / f"{root.name}-copy"
    shutil.copytree(root, copy)  # with the times of change
    assert digest(copy) == original
    assert digest(words="all") != original
    os.utime(folder / "marvin" / "0000000a_nohash_0.wav", ns=(1, 1))
    assert digest() == original  # not a core word
    os.utime(folder / "yes" / "0000000a_nohash_0.wav", ns=(1, 1))
    changed = digest()
    assert changed != original
    with (folder / "testing_list.txt").open("a") as file:
        file.write("yes/0000000a_nohash_0.wav\n")
    assert digest() not in {changed, original}


def test_mistakes_are_one_line_that_says_what_would_be_right(root: Path) -> None:
    for words, message in (
        ("yes", "only one label, 'yes'"),
        ("yes,nope", "no clips of 'nope' in .* which has bed, down"),
        ("yes,yes", "names 'yes' twice"),
        ("yes,,no", "empty entry"),
    ):
        with pytest.raises(CorpusError, match=message):
            SpeechCommandsCorpus.create(root, words, 0)
    with pytest.raises(CorpusError, match=r"/nowhere/.*correct data\.root.*--download"):
        SpeechCommandsCorpus.create(Path("/nowhere"), "core", 0)
    folder = dataset_folder(root)
    (folder / "testing_list.txt").write_text("")
    with pytest.raises(CorpusError, match="no test clips"):
        SpeechCommandsCorpus.create(root, "core", 0)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(CorpusError, match=r"testing_list.txt.*incomplete"):
        SpeechCommandsCorpus.create(root, "core", 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_sample_of_noise_is_in_two_clips_and_so_in_none_of_two_clients(
    root: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = dataset_folder(root)
    wanted = {"train": 7, "validation": 2, "test": 5}
    cuts = silence_clips(folder, scan_audio(folder).files, wanted, seed)
    counts = dict(cuts.group_by("split").len().iter_rows())
    assert counts == {"train": 7, "validation": 2, "test": 2}  # a tenth of 12 s has one second
    assert "2 test cuts of silence without a common sample, not 5" in caplog.text
    held: dict[str, list[int]] = {}
    for clip in cuts["clip"]:
        name, _, start = clip.partition("#")
        held.setdefault(name, []).append(int(start))
    for starts in held.values():
        assert np.diff(sorted(starts)).min() >= 16000


def test_twelve_without_other_words_or_enough_noise_is_refused(root: Path) -> None:
    folder = dataset_folder(root)
    for name in ("hum", "tap"):
        soundfile.write(folder / f"_background_noise_/{name}.wav", np.zeros(19000), 16000)
    with pytest.raises(CorpusError, match=r"needs 2 train cuts of silence, but no"):
        SpeechCommandsCorpus.create(root, "twelve", 0)
    for word in ("marvin", "bed"):
        shutil.rmtree(folder / word)
    with pytest.raises(CorpusError, match="'unknown'"):
        SpeechCommandsCorpus.create(root, "twelve", 0)


def test_a_misnamed_file_is_named(root: Path) -> None:
    folder = dataset_folder(root)
    shutil.copy(folder / "yes/0000000a_nohash_0.wav", folder / "yes/0000000a_nohash_x.wav")
    with pytest.raises(CorpusError, match=r"<speaker>_nohash_<number>.wav.*'x'"):
        SpeechCommandsCorpus.create(root, "core", 0)


def test_real_clips_have_the_documented_split(shared_data: Path) -> None:
    corpus = SpeechCommandsCorpus.create(shared_data, "all", 0)
    counts = corpus.clips.group_by("split").agg(pl.len(), pl.col("speaker").n_unique())
    assert set(counts.rows()) == {("train", 1778, 113), ("validation", 362, 15), ("test", 663, 34)}
    assert len(corpus.labels) == 35
    assert corpus.clips["speaker"].str.contains("^[0-9a-f]{8}$").all()
    assert np.abs(corpus.waveform(0)).max() > 0.01


def pack(root: Path, archive: Path) -> str:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(dataset_folder(root), arcname=".")
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def test_download_unpacks_an_archive_with_the_right_digest_once(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = tmp_path_factory.mktemp("server") / "speech_commands_v0.02.tar.gz"
    sha256 = pack(root, archive)
    target = tmp_path_factory.mktemp("user") / "new"
    download(target, url=archive.as_uri(), sha256=sha256, progress=False)
    fetched = SpeechCommandsCorpus.create(target, "twelve", 0)
    assert fetched.clips.equals(SpeechCommandsCorpus.create(root, "twelve", 0).clips)
    assert sorted(path.name for path in target.iterdir()) == ["SpeechCommands"]
    assert [path.name for path in (target / "SpeechCommands").iterdir()] == [
        "speech_commands_v0.02"
    ]
    archive.unlink()
    download(target, url=archive.as_uri(), sha256=sha256, progress=False)  # is there already


def test_download_leaves_nothing_of_a_wrong_archive(tmp_path: Path) -> None:
    server, target = tmp_path / "server", tmp_path / "user"
    server.mkdir()
    archive = server / "archive.tar.gz"
    outside = tarfile.TarInfo("../../escaped")
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(outside, io.BytesIO())
    escaping = hashlib.sha256(archive.read_bytes()).hexdigest()
    for sha256, message in (("0" * 64, "invalid hash value"), (escaping, "cannot unpack")):
        with pytest.raises(CorpusError, match=message):
            download(target, url=archive.as_uri(), sha256=sha256, progress=False)
    archive.write_bytes(b"not a tar")
    sha256 = hashlib.sha256(b"not a tar").hexdigest()
    with pytest.raises(CorpusError, match="cannot unpack"):
        download(target, url=archive.as_uri(), sha256=sha256, progress=False)
    archive.unlink()
    with pytest.raises(CorpusError, match=r"cannot fetch file://.* to .*user"):
        download(target, url=archive.as_uri(), sha256="0" * 64, progress=False)
    assert [path for path in target.rglob("*") if path.is_file()] == []
    assert not (target / "SpeechCommands" / "speech_commands_v0.02").exists()


def test_download_uses_an_archive_that_is_there_only_if_it_is_sound(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("user")
    archive = target / "speech_commands_v0.02.tar.gz"
    sha256 = pack(root, archive)
    url = "http://nowhere.invalid/speech_commands_v0.02.tar.gz"
    with pytest.raises(CorpusError, match="is damaged"):
        download(target, url=url, sha256="0" * 64, progress=False)
    download(target, url=url, sha256=sha256, progress=False)
    assert archive.is_file()
    assert SpeechCommandsCorpus.create(target, "core", 0).clips.height == 60
