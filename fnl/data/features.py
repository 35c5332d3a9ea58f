"""Log-mel and MFCC features of one-second clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fnl.config import DataGroup
from fnl.data.corpus import CLIP_SAMPLES, SAMPLE_RATE
from fnl.data.torchaudio_cpu import torchaudio
from fnl.errors import ConfigError
from fnl.runtime.determinism import one_thread

FeatureKind = Literal["log-mel", "mfcc"]

FFT_SAMPLES = 512
WINDOW_SAMPLES = 480
"""The analysis window: 30 ms."""

LARGEST_MEL_BINS = 114
"""Mel filters that the spectrum can fill: with more, one of them is all zeros."""

LOG_OFFSET = 1e-6
"""Added to a mel power before its logarithm."""

DEVIATION: dict[FeatureKind, float] = {"log-mel": 2.0, "mfcc": 4.0}
"""What features are divided by, a constant: real clips then deviate by 2.0 and 1.0."""

_HOPS_MS = tuple(hop for hop in range(1, 101) if 1000 % hop == 0)


@dataclass(frozen=True)
class FeatureSpec:
    """Which features are computed.

    Attributes:
        kind: `log-mel`, or `mfcc`: the orthonormal DCT-II of the same log-mel, all of it.
        mel_bins: mel filters between 0 and 8 kHz, and coefficients of `mfcc`: F.
        frame_hop_ms: time between frames in milliseconds; divides a second.

    Raises:
        ConfigError: on an unknown kind, a hop that does not divide a second, or more filters than
            the spectrum can fill.
    """

    kind: FeatureKind = "log-mel"
    mel_bins: int = 40
    frame_hop_ms: int = 20

    def __post_init__(self) -> None:
        if self.kind not in get_args(FeatureKind):
            raise ConfigError(
                f"data.features = {self.kind!r} is not one of {', '.join(get_args(FeatureKind))}"
            )
        if self.frame_hop_ms not in _HOPS_MS:
            raise ConfigError(
                f"data.frame-hop-ms = {self.frame_hop_ms} does not divide a second: "
                f"choose one of {', '.join(map(str, _HOPS_MS))}"
            )
        if not 1 <= self.mel_bins <= LARGEST_MEL_BINS:
            raise ConfigError(
                f"data.mel-bins = {self.mel_bins} does not lie in 1 to {LARGEST_MEL_BINS}: with "
                f"more, a filter falls between the {FFT_SAMPLES // 2 + 1} bins of the spectrum and "
                "is empty"
            )

    @classmethod
    def of(cls, data: DataGroup, hop: int = 0) -> FeatureSpec:
        """Return the features that a configuration names, at another `hop` in ms if it is given."""
        return cls(data.features, data.mel_bins, hop or data.frame_hop_ms)

    @property
    def shape(self) -> tuple[int, int]:
        """(T, F): frames of a clip, features of a frame."""
        return 1000 // self.frame_hop_ms, self.mel_bins


def extract(waveforms: Tensor, spec: FeatureSpec) -> Tensor:
    """Return the features of clips: float32 [n, 16000] at 16 kHz -> float32 [n, T, F].

    Frames are centred on multiples of the hop; the one centred on the clip's end is dropped. Each
    clip is normalised by itself, so that no statistic crosses clips and a record stays a record
    under differential privacy: minus its mean over time per feature, divided by a constant. Each is
    also transformed by itself, so that the rest of a batch cannot change a bit of it.

    Raises:
        ValueError: if `waveforms` has another shape or dtype.
    """
    if waveforms.ndim != 2 or waveforms.shape[1] != CLIP_SAMPLES:
        raise ValueError(f"waveforms must be [n, {CLIP_SAMPLES}], got {list(waveforms.shape)}")
    if waveforms.dtype != torch.float32:
        raise ValueError(f"waveforms must be float32, got {waveforms.dtype}")
    frames, size = spec.shape
    features = waveforms.new_empty(len(waveforms), frames, size)
    transform = _transform(spec)
    with torch.no_grad(), one_thread():
        for row, waveform in enumerate(waveforms):
            clip = transform(waveform)[:, :frames].T  # [T + 1 frames of F] -> [T, F]
            features[row] = (clip - clip.mean(dim=0)) / DEVIATION[spec.kind]
    return features


@lru_cache(maxsize=8)
def _transform(spec: FeatureSpec) -> Callable[[Tensor], Tensor]:
    """Return [16000] -> [F, T + 1], before normalisation."""
    mel_arguments: dict[str, Any] = {
        "n_fft": FFT_SAMPLES,
        "win_length": WINDOW_SAMPLES,
        "hop_length": SAMPLE_RATE * spec.frame_hop_ms // 1000,
        "n_mels": spec.mel_bins,
    }
    if spec.kind == "mfcc":  # its own offset inside the logarithm is LOG_OFFSET, too
        return torchaudio.transforms.MFCC(
            SAMPLE_RATE, n_mfcc=spec.mel_bins, log_mels=True, melkwargs=mel_arguments
        )
    mel_power = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, **mel_arguments)
    return lambda waveform: torch.log(mel_power(waveform) + LOG_OFFSET)
