"""Features against scipy, and what differential privacy needs of them: no clip sees another."""

from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch

from fnl.data.audio import read_clip
from fnl.data.features import DEVIATION, LARGEST_MEL_BINS, FeatureSpec, extract
from fnl.data.torchaudio_cpu import torchaudio
from fnl.errors import ConfigError


def waveforms(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    envelope = torch.linspace(0, 1, 16000) ** torch.arange(1, count + 1)[:, None]
    return 0.1 * torch.randn(count, 16000, generator=generator) * envelope


def htk_filters(mel_bins: int) -> np.ndarray:
    """Triangles on the HTK mel scale between 0 and 8 kHz: [257, mel_bins]."""
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), mel_bins + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.linspace(0, 8000, 257)[:, None]
    rising = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


@pytest.mark.parametrize("hop_ms", [10, 20, 25])
def test_log_mel_and_mfcc_equal_a_plain_numpy_version(hop_ms: int) -> None:
    clip = waveforms(1)
    hop = 16 * hop_ms
    padded = np.pad(clip[0].double().numpy(), 256, mode="reflect")
    window = np.zeros(512)
    window[16:496] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    frames = np.stack([padded[t * hop : t * hop + 512] for t in range(16000 // hop)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    log_mel = np.log(power @ htk_filters(40) + 1e-6)
    mfcc = scipy.fft.dct(log_mel, norm="ortho", axis=1)
    for kind, raw in (("log-mel", log_mel), ("mfcc", mfcc)):
        spec = FeatureSpec(kind, 40, hop_ms)
        features = extract(clip, spec)
        assert features.shape == (1, *spec.shape)
        expected = (raw - raw.mean(axis=0)) / DEVIATION[spec.kind]
        np.testing.assert_allclose(features[0].numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("kind", ["log-mel", "mfcc"])
def test_a_clip_has_the_same_bits_in_any_batch_and_any_number_of_threads(kind: str) -> None:
    spec, clips = FeatureSpec(kind), waveforms(9)
    threads = torch.get_num_threads()
    together = extract(clips, spec)
    torch.set_num_threads(3)
    threaded = extract(clips, spec)
    torch.set_num_threads(threads)
    assert torch.equal(together, threaded)
    alone = torch.cat([extract(clip[None], spec) for clip in clips])
    order = [4, 0, 8]
    assert torch.equal(together, alone)
    assert torch.equal(together[order], extract(clips[order], spec))


def test_features_are_normalised_within_the_clip() -> None:
    clips = waveforms(3)
    features = extract(clips, FeatureSpec())
    assert features.mean(dim=1).abs().max() < 1e-4
    noise = clips[:1] + torch.randn(1, 16000, generator=torch.Generator().manual_seed(1))
    quiet, loud = (extract(gain * noise, FeatureSpec()) for gain in (1, 3))
    assert (loud - quiet).abs().max() < 1e-3  # gain is a constant of the logarithm


def test_digital_silence_gives_zeros() -> None:
    assert extract(torch.zeros(2, 16000), FeatureSpec()).abs().max() < 1e-5
    assert extract(torch.zeros(0, 16000), FeatureSpec()).shape == (0, 50, 40)


@pytest.mark.parametrize("hop_ms", [5, 8, 10, 20, 25, 40, 50, 100])
def test_frames_times_hop_is_a_second(hop_ms: int) -> None:
    spec = FeatureSpec(frame_hop_ms=hop_ms)
    assert spec.shape[0] * hop_ms * 16 == 16000
    assert extract(waveforms(1), spec).shape == (1, *spec.shape)


def test_the_largest_number_of_mel_bins_is_the_last_that_torchaudio_does_not_warn_of() -> None:
    assert extract(waveforms(1), FeatureSpec(mel_bins=LARGEST_MEL_BINS)).isfinite().all()
    for bins in (LARGEST_MEL_BINS + 1, 128, 200, 257):
        with pytest.warns(UserWarning, match="all zero"):
            torchaudio.transforms.MelSpectrogram(16000, n_fft=512, n_mels=bins)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"kind": "mel"}, "data.features = 'mel'"),
        ({"mel_bins": 128}, "data.mel-bins = 128 does not lie in 1 to 114"),
        ({"mel_bins": 0}, "data.mel-bins = 0"),
        ({"frame_hop_ms": 30}, "data.frame-hop-ms = 30"),
        ({"frame_hop_ms": 1000}, "data.frame-hop-ms = 1000"),
        ({"frame_hop_ms": 0}, "data.frame-hop-ms = 0"),
    ],
)
def test_impossible_features_are_one_clear_error(arguments: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        FeatureSpec(**arguments)


@pytest.mark.parametrize("bad", [torch.zeros(16000), torch.zeros(1, 15999)])
def test_waveforms_of_another_shape_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="waveforms must be"):
        extract(bad, FeatureSpec())
    with pytest.raises(ValueError, match="float32"):
        extract(torch.zeros(1, 16000).double(), FeatureSpec())


def test_real_clips_deviate_as_the_constants_claim(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("SpeechCommands/speech_commands_v0.02/*/*_nohash_*.wav"))
    clips = torch.from_numpy(np.stack([read_clip(path) for path in paths[::20]]))
    assert extract(clips, FeatureSpec("log-mel")).std().item() == pytest.approx(2.0, rel=0.1)
    assert extract(clips, FeatureSpec("mfcc")).std().item() == pytest.approx(1.0, rel=0.1)
