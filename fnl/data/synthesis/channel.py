"""From dry speech to a recorded clip: when it is said, in what room, into what noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.data.corpus import CLIP_SAMPLES, SAMPLE_RATE
from fnl.data.synthesis.fourier import fast_length, inverse_real_fft, real_fft, shaped_noise

_DECAY_60_DB = 6.9
_FULL_LEVEL = 0.35


@dataclass(frozen=True, eq=False)
class Channel:
    """One speaker's recording conditions.

    Attributes:
        response: [n_fft / 2 + 1] complex64, room and microphone; no wrap-around within a clip.
        n_fft: length of the transform that `response` belongs to.
        noise_shape: [CLIP_SAMPLES / 2 + 1] float32, amplitude spectrum of the background noise,
            scaled to unit power.
        signal_to_noise_db: mean over clips.
        level: loudness; 1 would be a root mean square of 0.35.
        timing_spread: how far words stray from the middle of the clip, in units of the free time.
    """

    response: NDArray[np.complex64]
    n_fft: int
    noise_shape: NDArray[np.float32]
    signal_to_noise_db: float
    level: float
    timing_spread: float


def draw_channel(generator: np.random.Generator, difficulty: float) -> Channel:
    """Draw recording conditions.

    Args:
        generator: the speaker's stream.
        difficulty: 0 is a quiet room and a flat microphone; 1.5 a signal-to-noise ratio of
            9-18 dB, reverberation up to 0.7 s and an equalisation of several dB.
    """
    reverberation_s = 0.05 + generator.random() * (0.10 + 0.35 * difficulty)
    wet_db = -(18 - 14 * difficulty + 12 * generator.random())
    taps = min(int(reverberation_s * SAMPLE_RATE), CLIP_SAMPLES)
    decay = np.exp(-_DECAY_60_DB * np.arange(taps) / (reverberation_s * SAMPLE_RATE))
    room = generator.standard_normal(taps) * decay
    room *= 4 * 10 ** (wet_db / 20) / np.sqrt(np.sum(room**2))
    room[0] += 1
    n_fft = fast_length(CLIP_SAMPLES + taps - 1)
    response = np.fft.rfft(room, n_fft) * _microphone(n_fft // 2 + 1, generator, difficulty)

    slope = generator.uniform(0, 1.6)
    shape = np.maximum(np.arange(CLIP_SAMPLES // 2 + 1), 20.0) ** (-slope / 2)
    shape /= np.sqrt(np.mean(shape**2))
    quietest = 30 - 14 * difficulty
    return Channel(
        response=response.astype(np.complex64),
        n_fft=n_fft,
        noise_shape=shape.astype(np.float32),
        signal_to_noise_db=quietest + generator.random() * (15 - 4 * difficulty),
        level=generator.uniform(0.03, 0.25),
        timing_spread=0.5 * (0.35 + 0.5 * difficulty),
    )


def _microphone(
    bins: int, generator: np.random.Generator, difficulty: float
) -> NDArray[np.float64]:
    """Return a smooth amplitude response [bins]: a spectral tilt and four cosines, in dB."""
    position = np.linspace(0, 1, 257)
    weights = generator.standard_normal(5)
    ripples = np.cos(np.pi * np.arange(2, 6)[:, None] * position)
    curve_db = weights[0] * (2 * position - 1) + 0.5 * np.sum(weights[1:, None] * ripples, axis=0)
    curve_db *= 3 + 3 * difficulty
    return 10 ** (np.interp(np.linspace(0, 1, bins), position, curve_db) / 20)


def record(
    speech: NDArray[np.float32], channel: Channel, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the clip float32 [CLIP_SAMPLES] in [-1, 1] that the channel makes of dry speech.

    Args:
        speech: any length; longer than the clip is cropped at its end.
        channel: the speaker's.
        generator: the clip's stream; decides timing, loudness and noise.
    """
    dry = np.zeros(CLIP_SAMPLES, dtype=np.float32)
    free = max(CLIP_SAMPLES - len(speech), 0)
    shift = free * channel.timing_spread * generator.standard_normal()
    start = int(np.clip(free / 2 + shift, 0, free))
    dry[start : start + len(speech)] = speech[:CLIP_SAMPLES]
    heard = inverse_real_fft(real_fft(dry, channel.n_fft) * channel.response, channel.n_fft)
    clip = heard[:CLIP_SAMPLES]

    rms = _FULL_LEVEL * channel.level * np.exp(generator.normal(0, 0.3))
    clip *= np.float32(rms / (np.sqrt(np.mean(clip**2)) + 1e-9))
    noise_rms = rms * 10 ** (-(channel.signal_to_noise_db + generator.normal(0, 3)) / 20)
    clip += np.float32(noise_rms) * shaped_noise(channel.noise_shape, generator)
    return np.clip(clip, -1, 1, out=clip)
