"""The auditory model against its sources, and a corpus of audio on its way to events and back."""

import os

import h5py
import numpy as np
import pytest

from fnl.data.auditory import AuditoryModel, _at_rest, _ear, _filters
from fnl.data.convert import convert
from fnl.data.corpus import SAMPLE_RATE
from fnl.data.event_corpus import EventCorpus
from fnl.data.event_features import EventSpec
from fnl.data.speech_commands import SpeechCommandsCorpus
from fnl.data.synthetic import SyntheticCorpus
from fnl.errors import ConfigError, CorpusError, RunError


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def test_a_fibre_rests_where_meddis_constants_say():
    """The fixed point of dq, dc, dw = 0, solved as linear equations."""
    low, high, most = 5.0, 300.0, 2000.0
    lets = most * low / (low + high)
    y, loss, r, x = 5.05, 2500.0, 6580.0, 66.31
    system = np.array([[-y - lets, 0, x], [lets, -loss - r, 0], [0, r, -x]])
    _, cleft, _ = np.linalg.solve(system, [-y, 0, 0])
    assert _at_rest()[0] == pytest.approx(cleft, rel=1e-12)


def test_centres_are_even_on_the_erb_scale_and_filters_as_wide_as_glasberg_and_moore_say():
    centres = AuditoryModel(30).centres()
    numbers = 21.4 * np.log10(1 + 0.00437 * centres)
    np.testing.assert_allclose(np.diff(numbers), numbers[1] - numbers[0])
    assert centres[[0, -1]] == pytest.approx([80, 7000])
    cosine, sine, gain = _filters(np.array([1000.0]))
    pole = cosine[0] + 1j * sine[0]
    hz = np.arange(200, 3000, 0.5)
    response = gain[0] / np.abs(1 - pole * np.exp(-2j * np.pi * hz / SAMPLE_RATE)) ** 4
    assert response.max() == pytest.approx(2.0, rel=1e-3)  # half of it is the real part's
    width = np.sum(response**2) * 0.5 / response.max() ** 2
    assert width == pytest.approx(24.7 + 1000 / 9.265, rel=0.02)


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_is_loudest_where_its_frequency_is_and_the_ear_adapts(hz):
    model = AuditoryModel(60)
    times, channels = model.spikes(tone(hz))
    loudest = np.bincount(channels, minlength=60).argmax()
    assert abs(np.log2(model.centres()[loudest] / hz)) < 0.2
    onset = np.sum(times < 0.05) / 0.05
    later = np.sum(times > 0.25) / 0.25
    assert onset > 1.1 * later


def test_silence_is_silent_and_level_does_not_matter():
    model = AuditoryModel(20)
    assert not len(model.spikes(np.zeros(8000))[0])
    soft, loud = (model.spikes(scale * tone(700)) for scale in (0.01, 1.0))
    np.testing.assert_array_equal(soft[1], loud[1])
    assert not _ear(np.zeros(8000), _filters(model.centres()), _at_rest()).any()


def test_no_channel_fires_within_its_refractory_time():
    times, channels = AuditoryModel(20).spikes(tone(500))
    for channel in np.unique(channels):
        assert (np.diff(times[channels == channel]) > 0.001).all()


@pytest.mark.parametrize("channels", [0, 701])
def test_channels_that_there_cannot_be_are_refused(channels):
    with pytest.raises(ConfigError, match=f"--channels {channels}"):
        AuditoryModel(channels)


@pytest.fixture(scope="module")
def corpus() -> SyntheticCorpus:
    return SyntheticCorpus.create(
        ("yes", "no"), speakers=10, clips_per_word=1, seed=0, difficulty=1.5
    )


def test_a_converted_corpus_has_the_same_clips_and_the_models_spikes(corpus, tmp_path):
    model, seen = AuditoryModel(16), []
    convert(
        corpus, model, tmp_path / "events", report=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (20, 20)
    events = EventCorpus.create(tmp_path / "events")
    assert events.synthetic
    assert events.labels == corpus.labels
    spec = EventSpec(channels=16, frame_hop_ms=100)
    for split in ("train", "validation", "test"):
        rows = corpus.clips.with_row_index().filter(split=split)
        theirs = events.clips.with_row_index().filter(split=split)
        assert rows["label"].to_list() == theirs["label"].to_list()
        assert rows["speaker"].to_list() == theirs["speaker"].to_list()
        for row, other in zip(rows["index"], theirs["index"], strict=True):
            times, units = model.spikes(corpus.waveform(row))
            counts = np.zeros((10, 16))
            np.add.at(counts, (np.floor(times.astype(float) * 10).astype(int), units), 1)
            np.testing.assert_array_equal(events.features(other, spec), counts)


def test_the_layout_is_the_heidelberg_one_and_says_what_made_it(corpus, tmp_path):
    written = convert(corpus, AuditoryModel(16), tmp_path)
    assert [path.name for path in written.values()] == ["train.h5", "valid.h5", "test.h5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.h5", "train.h5", "valid.h5"]
    with h5py.File(written["train"]) as file:
        assert set(file) == {"extra", "labels", "spikes"}
        assert set(file["spikes"]) == {"times", "units"}
        assert file.attrs["units"] == 16
        assert "Hohmann 2002" in file.attrs["model"]
        assert len(file["extra/speaker"]) == len(file["labels"]) == len(file["spikes/times"])
        assert (np.diff(file["spikes/times"][0]) >= 0).all()


@pytest.mark.slow
def test_files_are_the_same_for_any_number_of_workers_and_never_overwritten(corpus, tmp_path):
    one = convert(corpus, AuditoryModel(8), tmp_path / "one")
    two = convert(corpus, AuditoryModel(8), tmp_path / "two", workers=2)
    for path, other in zip(one.values(), two.values(), strict=True):
        with h5py.File(path) as a, h5py.File(other) as b:
            for mine, theirs in zip(a["spikes/times"][()], b["spikes/times"][()], strict=True):
                np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(CorpusError, match="is there already"):
        convert(corpus, AuditoryModel(8), tmp_path / "one")


class Dying(SyntheticCorpus):
    def waveform(self, row: int) -> np.ndarray:
        os._exit(1)  # as the kernel ends what takes too much memory


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_and_leaves_no_file(corpus, tmp_path):
    """Reproduction: it was a `BrokenProcessPool`, with its trace."""
    dying = Dying(**vars(corpus))
    with pytest.raises(RunError, match="died, perhaps out of memory"):
        convert(dying, AuditoryModel(8), tmp_path, workers=2)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_made_and_refuses_events(command, small_config, tmp_path):
    output = str(tmp_path / "events")
    settings = [f"--set=data.cache-dir={small_config['data.cache-dir']}"]
    small = ["--set=data.speakers=10", "--set=data.clips-per-word=1", "--set=data.words=yes,no"]
    options = f"--output={output}", "--channels=8", "--workers=1"
    status, said, _ = command("data", "convert", *options, *settings, *small)
    assert status in (0, None)
    assert "20 synthetic clips, 8 channels" in said
    spikes = ["--set=data.corpus=spikes", f"--set=data.root={output}"]
    status, _, errors = command("data", "convert", "--output", output + "2", *spikes)
    assert status == 1
    assert "has events: name a corpus of audio" in errors


def test_real_clips_become_events_of_which_most_lie_where_speech_is(shared_data):
    real = SpeechCommandsCorpus.create(shared_data, "yes,no")
    model = AuditoryModel(64)
    for row in range(3):
        waveform = real.waveform(row)
        times, channels = model.spikes(waveform)
        assert len(times) > 200
        energy = np.add.reduceat(waveform**2, np.arange(0, SAMPLE_RATE, 800))
        fired = np.histogram(times, np.arange(21) * 0.05)[0]
        assert np.corrcoef(np.log(energy + 1e-6), fired)[0, 1] > 0.5
        assert len(np.unique(channels)) > 20
