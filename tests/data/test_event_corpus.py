"""Event data in the Heidelberg layout: what is read, how it is binned, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from fnl.config import parse_config
from fnl.data.event_corpus import EventCorpus
from fnl.data.event_features import EventSpec, binned
from fnl.data.federated import prepare
from fnl.errors import ConfigError, CorpusError
from tests.runs import model_of, run_here, table

WORDS = ("zero", "one", "null", "eins")


def shd(path: Path, clips: int, speakers: list[int] | None, *, seed: int = 0, **changes) -> None:
    """Write a file as https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/ lays it out.

    Times are float16 seconds and units uint16, as in the publisher's own files.
    """
    draws = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        labels = np.arange(clips, dtype=np.uint16) % len(WORDS)
        file["labels"] = changes.get("labels", labels)
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            file.create_dataset(f"spikes/{name}", (clips,), h5py.vlen_dtype(np.dtype(kind)))
        for clip in range(clips):
            count = draws.integers(20, 60)
            times = np.sort(draws.uniform(0, 1.2, count)).astype(np.float16)
            units = draws.integers(0, 700, count).astype(np.uint16)
            file["spikes/times"][clip], file["spikes/units"][clip] = times, units
        file["extra/keys"] = [word.encode() for word in changes.get("words", WORDS)]
        if speakers is not None:
            file["extra/speaker"] = np.resize(np.array(speakers, np.uint16), clips)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    shd(tmp_path / "shd_train.h5", 48, [0, 1, 2, 3, 6])
    shd(tmp_path / "shd_test.h5", 12, [4, 5], seed=1)
    return tmp_path


def configured(root: Path, **changes: object):
    return parse_config(
        {"data.corpus": "spikes", "data.root": str(root), "data.clients": 4,
         "data.event-channels": 20, "data.cache-dir": str(root / "cache"), **changes}
    )  # fmt: skip


def test_events_are_counted_by_step_and_group_of_channels():
    times = np.array([0.0, 0.0199, 0.02, 0.5, 0.5, 0.999, 1.0, 1.3])
    units = np.array([0, 349, 350, 699, 699, 1, 5, 5])
    spec = EventSpec(channels=2, frame_hop_ms=20)
    counts = binned(times, units, 700, spec)
    expected = np.zeros((50, 2), np.float32)
    expected[0, 0], expected[1, 1], expected[25, 1], expected[49, 0] = 2, 1, 2, 1
    np.testing.assert_array_equal(counts, expected)
    binary = binned(times, units, 700, EventSpec(2, 20, "binary"))
    np.testing.assert_array_equal(binary, expected > 0)


def test_a_time_beyond_all_integers_is_after_the_clip():
    spec = EventSpec(channels=1, frame_hop_ms=20)
    counts = binned(np.array([1e300, 0.1]), np.array([0, 0]), 700, spec)
    assert counts.sum() == counts[5, 0] == 1


def test_groups_of_channels_are_even_to_one_unit_and_in_order():
    units = np.arange(700)
    counts = binned(np.zeros(700), units, 700, EventSpec(channels=40, frame_hop_ms=20))[0]
    assert counts.sum() == 700
    assert set(counts) == {17.0, 18.0}


def test_splits_labels_and_speakers_are_the_publishers(digits):
    corpus = EventCorpus.create(digits)
    assert corpus.labels == WORDS
    assert set(corpus.clips["split"]) == {"train", "test"}
    train = corpus.clips.filter(split="train")
    assert train["speaker"].unique().sort().to_list() == ["0000", "0001", "0002", "0003", "0006"]
    assert set(corpus.clips.filter(split="test")["speaker"]) == {"0004", "0005"}
    some = EventCorpus.create(digits, "eins,zero")
    assert some.labels == ("eins", "zero")
    assert some.clips.height == corpus.clips.height / 2


def test_features_are_the_files_events(digits):
    federation = prepare(configured(digits), workers=1)
    store = federation.store
    assert store.features.shape == (60, 50, 20)
    with h5py.File(digits / "shd_train.h5") as file:
        for row, clip in enumerate(store.clips["clip"]):
            if not clip.startswith("train/"):
                continue
            number = int(clip.partition("/")[2])
            times = np.asarray(file["spikes/times"][number], np.float64)
            units = np.asarray(file["spikes/units"][number], np.int64)
            counts, _, _ = np.histogram2d(
                times, units, [np.arange(51) * 0.02, np.arange(0, 701, 35)]
            )  # a time on the last edge, one second, is in the last bin
            counts[-1] -= np.histogram(units[times == 1.0], np.arange(0, 701, 35))[0]
            np.testing.assert_array_equal(store.features[row], counts)
            assert store.labels[store.clips["label"][row]] == WORDS[file["labels"][number]]


def test_a_run_by_speaker_goes_from_the_file_to_its_report(digits, small_config):
    flat = {
        **small_config,
        "data.corpus": "spikes", "data.root": str(digits), "data.event-channels": 20,
        "data.cache-dir": str(digits / "cache"), "run.name": "events",
    }  # fmt: skip
    run_here(flat)
    assert model_of(flat)
    assert table(flat, "rounds")["epsilon_max"][-1] > 0
    federation = prepare(parse_config(flat), workers=1)
    held = [set(federation.client_speakers(k)) for k in range(4)]
    assert set.union(*held) == {"0000", "0001", "0002", "0003", "0006"}
    assert sum(map(len, held)) == 5  # nobody is in two clients


def test_files_without_speakers_are_not_split_by_them(tmp_path):
    for split in ("train", "valid", "test"):
        shd(tmp_path / f"ssc_{split}.h5", 16, None)
    assert EventCorpus.create(tmp_path).clips["split"].n_unique() == 3
    with pytest.raises(CorpusError, match=r"do not say who speaks \(extra/speaker\)"):
        prepare(configured(tmp_path), workers=1)
    assert prepare(configured(tmp_path, **{"data.partitioner": "iid"}), workers=1).classes == 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f["spikes/units"].__setitem__(3, np.array([700], np.uint16)), "times for"),
        (lambda f: _set(f, 3, [0.1], [700]), "units that are not 0 to 699"),
        (lambda f: _set(f, 3, [np.nan], [1]), "times that are no seconds from zero"),
        (lambda f: _set(f, 3, [-0.1], [1]), "times that are no seconds from zero"),
    ],
)
def test_a_clip_that_is_no_spike_train_is_named_and_may_be_skipped(digits, damage, said):
    with h5py.File(digits / "shd_train.h5", "r+") as file:
        damage(file)
    with pytest.raises(CorpusError, match=f"train/0000003.*{said}"):
        prepare(configured(digits), workers=1)
    skipping = configured(digits, **{"data.on-bad-audio": "skip"})
    assert prepare(skipping, workers=1).store.clips.height == 59


def _set(file: h5py.File, clip: int, times: list[float], units: list[int]) -> None:
    file["spikes/times"][clip] = np.array(times, np.float16)
    file["spikes/units"][clip] = np.array(units, np.uint16)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda root: (root / "shd_train.h5").unlink(), r"no \*train\.h5"),
        (lambda root: (root / "shd_test.h5").write_bytes(b"no"), "is no HDF5 file with"),
        (lambda root: shd(root / "ssc_train.h5", 4, None), "one file a split"),
        (lambda root: shd(root / "shd_test.h5", 4, None), "of one data set"),
        (
            lambda root: shd(root / "shd_test.h5", 4, [4], words=("a", "b", "c", "d")),
            "other labels",
        ),
        (lambda root: shd(root / "shd_test.h5", 4, [4], labels=[0, 1, 2, 9]), "not 0 to 3"),
        (lambda root: shd(root / "shd_test.h5", 4, [4], labels=[0, 1, 2]), "damaged"),
        (lambda root: shd(root / "shd_test.h5", 4, [4], words=("a", "a", "b", "c")), "twice"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_a_line(digits, break_it, said):
    break_it(digits)
    with pytest.raises(CorpusError, match=said) as error:
        EventCorpus.create(digits)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.features": "mfcc"}, "is of sound"),
        ({"training.augmentation": True}, "not on the events"),
        ({"data.root": ""}, "needs the folder that holds it"),
        ({"data.words": "twelve"}, "needs data.corpus = 'speech-commands'"),
    ],
)
def test_keys_of_sound_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        configured(Path("somewhere"), **changes)


def test_changed_files_are_read_again(digits):
    first = EventCorpus.create(digits).fingerprint
    shd(digits / "shd_train.h5", 52, [0, 1, 2, 3, 6])
    assert EventCorpus.create(digits).fingerprint != first


@pytest.mark.parametrize("train", [True, False])
def test_tonics_reader_reads_such_a_file_as_we_do(digits, train, monkeypatch):
    hsd = pytest.importorskip("tonic.datasets.hsd")
    folder = digits / "SHD"
    folder.mkdir()
    for name in ("shd_train.h5", "shd_test.h5"):
        (digits / name).rename(folder / name)
    monkeypatch.setattr(hsd.SHD, "_check_exists", lambda _: True)
    dataset = hsd.SHD(str(digits), train=train)
    corpus = EventCorpus.create(folder)
    split = "train" if train else "test"
    rows = corpus.clips.with_row_index().filter(split=split)
    assert len(dataset) == rows.height
    spec = EventSpec(channels=700, frame_hop_ms=10)
    for number, row in enumerate(rows.iter_rows(named=True)):
        events, label = dataset[number]
        assert corpus.labels[row["label"]] == WORDS[int(label)]
        theirs = np.zeros((100, 700))
        inside = events["t"] < 1e6
        np.add.at(theirs, (events["t"][inside] // 10_000, events["x"][inside]), 1)
        np.testing.assert_array_equal(corpus.features(row["index"], spec), theirs)
        assert f"{dataset.speaker[number]:04d}" == row["speaker"]


def external(file, folder):
    del file["labels"]
    file["labels"] = h5py.ExternalLink(str(folder / "shd_test.h5"), "labels")


def elsewhere(file, folder):
    (folder / "raw").write_bytes(bytes(96))
    del file["labels"]
    file.create_dataset("labels", (48,), np.uint16, external=[(str(folder / "raw"), 0, 96)])


def endless(file, _folder):
    del file["labels"]
    file.create_dataset("labels", (2**34,), np.uint16, chunks=(1024,), compression="gzip")


def fractions(file, _folder):
    del file["labels"]
    file["labels"] = np.full(48, 0.9)


def numberless(file, _folder):
    del file["extra/keys"], file["labels"]
    file["labels"] = np.full(48, 2**40)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (external, "a link, which is not followed"),
        (elsewhere, "no data set of the file's own"),
        (endless, "which no recording has"),
        (fractions, "no whole numbers"),
        (numberless, "labels that are not 0 to 9999"),
    ],
)
def test_a_file_of_a_stranger_reads_nothing_else_and_fills_no_memory(digits, damage, said):
    with h5py.File(digits / "shd_train.h5", "r+") as file:
        damage(file, digits)
    with pytest.raises(CorpusError, match=said) as error:
        EventCorpus.create(digits)
    assert len(str(error.value).splitlines()) == 1


def test_a_clip_of_endless_events_is_named(digits):
    with h5py.File(digits / "shd_train.h5", "r+") as file:
        del file["spikes/times"]
        shape = (48, 2**32)
        file.create_dataset("spikes/times", shape, np.float16, chunks=(1, 1024), compression="gzip")
    with pytest.raises(CorpusError, match="which no recording has"):
        EventCorpus.create(digits)
