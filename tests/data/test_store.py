"""The feature cache: the same bits for any number of workers, and never half there."""

import json
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from fnl.data.corpus import CLIP_SAMPLES, CLIP_SCHEMA, ClipError, Corpus
from fnl.data.extraction import write_features
from fnl.data.features import FeatureSpec, extract
from fnl.data.folder import FolderCorpus
from fnl.data.store import FeatureStore, build_features, cache_key
from fnl.errors import ConfigError, CorpusError, FnlError, RunError

ROOT = Path(__file__).resolve().parents[2]


class NoiseCorpus:
    """Noise whose bits depend on the row; some rows can be bad. Sent to workers by pickle."""

    name = "noise"
    labels = ("a", "b")
    synthetic = True

    def __init__(self, rows: int, bad: tuple[int, ...] = (), fingerprint: str = "noise") -> None:
        self.fingerprint = fingerprint
        self.bad = bad
        self.reads = 0
        self.clips = pl.DataFrame(
            {
                "clip": [f"{row:06d}" for row in range(rows)],
                "label": [row % 2 for row in range(rows)],
                "speaker": [f"s{row % 5}" for row in range(rows)],
                "split": [("train", "validation", "test")[row % 3] for row in range(rows)],
            },
            schema=CLIP_SCHEMA,
        )

    def waveform(self, row: int) -> np.ndarray:
        self.reads += 1
        if row in self.bad:
            raise ClipError("no such sound")
        return np.random.default_rng(row).uniform(-0.5, 0.5, CLIP_SAMPLES).astype(np.float32)


SPEC = FeatureSpec(mel_bins=8, frame_hop_ms=50)


def leftovers(cache_dir: Path) -> list[str]:
    return sorted(p.name for p in (cache_dir / "features").iterdir() if p.suffix != ".lock")


def test_a_store_holds_the_features_of_every_clip(tmp_path: Path) -> None:
    corpus = NoiseCorpus(7)
    assert isinstance(corpus, Corpus)
    calls: list[tuple[int, int]] = []
    store = build_features(
        corpus, SPEC, tmp_path, workers=1, progress=lambda *call: calls.append(call)
    )
    waveforms = torch.from_numpy(np.stack([corpus.waveform(row) for row in range(7)]))
    np.testing.assert_array_equal(store.features, extract(waveforms, SPEC).half().numpy())
    assert isinstance(store.features, np.memmap)
    assert not store.features.flags.writeable
    assert store.clips.equals(corpus.clips)
    assert (store.labels, store.skipped, store.synthetic) == (("a", "b"), 0, True)
    assert store.path == tmp_path / "features" / store.key
    assert calls == [(7, 7)]
    assert leftovers(tmp_path) == [store.key]


def test_the_second_build_reads_no_audio(tmp_path: Path) -> None:
    first, again = NoiseCorpus(6), NoiseCorpus(6)
    built = build_features(first, SPEC, tmp_path, workers=1)
    found = build_features(again, SPEC, tmp_path, workers=1)
    assert (first.reads, again.reads) == (6, 0)
    assert found.key == built.key
    np.testing.assert_array_equal(found.features, built.features)


@pytest.mark.slow
def test_bits_do_not_depend_on_workers_or_chunks(tmp_path: Path) -> None:
    corpus, spec = NoiseCorpus(21, bad=(3, 20)), FeatureSpec()
    found = []
    for name, workers, chunk_rows in (("a", 1, 256), ("b", 1, 1), ("c", 1, 5), ("d", 2, 4)):
        bad = write_features(corpus, spec, tmp_path / name, workers=workers, chunk_rows=chunk_rows)
        found.append(((tmp_path / name).read_bytes(), bad))
    assert all(result == found[0] for result in found)
    assert [clip.row for clip in found[0][1]] == [3, 20]


def test_a_store_is_sent_to_another_process_by_its_path(tmp_path: Path) -> None:
    store = build_features(NoiseCorpus(600), SPEC, tmp_path)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    received = pickle.loads(sent)  # noqa: S301 - made here
    assert isinstance(received.features, np.memmap)
    np.testing.assert_array_equal(received.features, store.features)


def test_everything_that_decides_the_features_is_in_the_key(tmp_path: Path) -> None:
    relabelled = NoiseCorpus(6)
    relabelled.labels = ("a", "c")
    keys = [
        cache_key(NoiseCorpus(6), SPEC, "fail"),
        cache_key(NoiseCorpus(6, fingerprint="other"), SPEC, "fail"),
        cache_key(relabelled, SPEC, "fail"),
        cache_key(NoiseCorpus(6), FeatureSpec("mfcc", 8, 50), "fail"),
        cache_key(NoiseCorpus(6), FeatureSpec("log-mel", 9, 50), "fail"),
        cache_key(NoiseCorpus(6), FeatureSpec("log-mel", 8, 40), "fail"),
        cache_key(NoiseCorpus(6), SPEC, "skip"),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(NoiseCorpus(6), SPEC, "fail") == keys[0]


def test_bad_clips_are_collected_and_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as failure:
        build_features(NoiseCorpus(40, bad=tuple(range(5, 17))), SPEC, tmp_path, workers=1)
    message = str(failure.value)
    assert message.startswith("12 of 40 clips of corpus 'noise' have unusable audio: 000005 (no su")
    assert "000014 (no such sound); …" in message
    assert "000015" not in message
    assert "\n" not in message
    assert leftovers(tmp_path) == []


def test_bad_clips_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus, bad = NoiseCorpus(600, bad=(0, 300, 599)), [0, 300, 599]
    with caplog.at_level(logging.WARNING):
        store = build_features(corpus, SPEC, tmp_path, on_bad_audio="skip")
    assert "3 clips of corpus 'noise' left out" in caplog.text
    kept = [row for row in range(600) if row not in bad]
    assert store.skipped == 3
    assert store.clips.equals(corpus.clips[kept])
    whole = build_features(NoiseCorpus(600, fingerprint="whole"), SPEC, tmp_path)
    np.testing.assert_array_equal(store.features, whole.features[kept])
    meta = json.loads((store.path / "meta.json").read_text())
    assert list(meta["bad_clips"]) == ["000000", "000300", "000599"]


@pytest.mark.parametrize(
    ("bad", "lost"), [((1, 3, 5), "label 'b'"), ((0, 3), "split 'train'"), (range(6), "label 'a'")]
)
def test_a_label_or_a_split_without_usable_clips_is_an_error(
    tmp_path: Path, bad: tuple[int, ...], lost: str
) -> None:
    with pytest.raises(CorpusError, match=f"{lost} of corpus 'noise' has no usable clip"):
        build_features(NoiseCorpus(6, bad=tuple(bad)), SPEC, tmp_path, on_bad_audio="skip")
    assert leftovers(tmp_path) == []


def test_corrupt_files_of_every_kind_are_named_with_their_reason(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    tone = np.sin(np.arange(16000) / 10) / 2
    for label in ("bark", "meow"):
        (root / label).mkdir(parents=True)
        for speaker in range(4):
            soundfile.write(root / label / f"s{speaker}_0.wav", tone, 16000)
    content = (root / "bark/s0_0.wav").read_bytes()
    (root / "bark/s1_1.wav").write_bytes(content[:9000])
    (root / "bark/s1_2.wav").write_text("this is no audio")
    soundfile.write(root / "bark/s1_3.wav", np.zeros(0), 16000)
    soundfile.write(root / "bark/s1_4.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    corpus = FolderCorpus.create(root)
    with pytest.raises(CorpusError, match=r"^4 of 12 clips") as failure:
        build_features(corpus, SPEC, tmp_path / "cache", workers=1)
    for expected in (
        "bark/s1_1.wav (truncated: 8956 of 32000 bytes of audio)",
        "bark/s1_2.wav (unreadable: ",
        "bark/s1_3.wav (empty: no audio frames)",
        "bark/s1_4.wav (NaN or infinite samples)",
    ):
        assert expected in str(failure.value)
    skipping = build_features(corpus, SPEC, tmp_path / "cache", on_bad_audio="skip")
    assert (skipping.features.shape[0], skipping.skipped) == (8, 4)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "remove", "parquet", "meta", "foreign"])
def test_a_damaged_cache_is_noticed_and_rebuilt(tmp_path: Path, damage: str) -> None:
    store = build_features(NoiseCorpus(6), SPEC, tmp_path, workers=1)
    expected, features = np.array(store.features), store.path / "features.npy"
    if damage == "truncate":
        os.truncate(features, features.stat().st_size - 1)
    elif damage == "garbage":
        features.write_bytes(b"\0" * features.stat().st_size)
    elif damage == "foreign":
        np.save(features, expected[:5])
    else:
        file = {"remove": features, "parquet": "clips.parquet", "meta": "meta.json"}[damage]
        (store.path / file).unlink() if damage == "remove" else (store.path / file).write_text("x")
    with pytest.raises(CorpusError, match="is damaged"):
        FeatureStore.open(store.path)
    rebuilt = build_features(NoiseCorpus(6), SPEC, tmp_path, workers=1)
    np.testing.assert_array_equal(rebuilt.features, expected)
    assert leftovers(tmp_path) == [store.key]


def test_a_corpus_that_breaks_its_contract_is_an_error(tmp_path: Path) -> None:
    class Short(NoiseCorpus):
        def waveform(self, row: int) -> np.ndarray:
            return super().waveform(row)[: CLIP_SAMPLES - row]

    with pytest.raises(CorpusError, match=r"returned float32 \[15999\] for row 1"):
        build_features(Short(6), SPEC, tmp_path, workers=1)
    with pytest.raises(ConfigError, match="workers = -1"):
        build_features(NoiseCorpus(6), SPEC, tmp_path, workers=-1)
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file.*Not a directory.*data\.cache-dir"):
        build_features(NoiseCorpus(6), SPEC, tmp_path / "file", workers=1)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on a file's size fails a write the way a full disk does, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write the feature cache.*File too large") as e:
            build_features(NoiseCorpus(600), SPEC, tmp_path, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(e.value, FnlError)
    assert "\n" not in str(e.value)
    assert leftovers(tmp_path) == []


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_features(NoiseCorpus(6), SPEC, tmp_path, workers=1, progress=interrupt)
    assert leftovers(tmp_path) == []


def test_a_second_builder_waits_and_finds_it(tmp_path: Path) -> None:
    first, second = NoiseCorpus(6), NoiseCorpus(6)
    building, go_on = threading.Event(), threading.Event()
    stores: list[FeatureStore] = []

    def hold(done: int, total: int) -> None:
        building.set()
        go_on.wait(20)

    def build(corpus: NoiseCorpus, progress: object) -> None:
        stores.append(build_features(corpus, SPEC, tmp_path, workers=1, progress=progress))

    threads = [threading.Thread(target=build, args=(first, hold))]
    threads[0].start()
    assert building.wait(20)
    threads.append(threading.Thread(target=build, args=(second, False)))
    threads[1].start()
    time.sleep(0.3)
    assert stores == []
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert (first.reads, second.reads) == (6, 0)
    np.testing.assert_array_equal(stores[0].features, stores[1].features)


BUILDER = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_store import SPEC, NoiseCorpus
import fnl.data.store as store

def hold(done, total):
    print("building", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    store.build_features(NoiseCorpus(900), SPEC, Path(sys.argv[1]), workers=2, progress=hold)
"""


@pytest.mark.slow
def test_a_killed_builder_leaves_one_folder_that_the_next_build_removes(tmp_path: Path) -> None:
    script, cache_dir = tmp_path / "builder.py", tmp_path / "cache"
    script.write_text(BUILDER.format(tests=str(Path(__file__).parent)))
    builder = subprocess.Popen(
        [sys.executable, script, cache_dir],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "building\n"
        workers = children(builder.pid)
        (left,) = leftovers(cache_dir)
        assert left.endswith(".building")
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(cache_dir / "features" / left.replace("building", "lock")).acquire(0)
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.communicate()
    assert leftovers(cache_dir) == [left]
    other = build_features(NoiseCorpus(6, fingerprint="other"), SPEC, cache_dir, workers=1)
    assert leftovers(cache_dir) == [other.key]
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers)), "workers outlive their parent"


def children(pid: int) -> list[int]:
    if not Path("/proc/self/task").is_dir():
        return []
    listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for line in listed for child in line.split()]


def is_alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
