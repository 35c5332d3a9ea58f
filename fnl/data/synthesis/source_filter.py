"""The source-filter model: glottal pulses and noise through a time-varying vocal tract.

The tract is a cascade of second-order resonators (Klatt 1980, equations 1-3). It is applied in
the frequency domain to overlapping Hann frames of the excitation: 20 ms long, 10 ms apart, with
10 ms for the resonances to ring out. All of it is in single precision.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fnl.data.corpus import SAMPLE_RATE
from fnl.data.synthesis.articulation import FRAME_SAMPLES, Articulation, NoiseBurst
from fnl.data.synthesis.fourier import (
    fast_length,
    inverse_real_fft,
    real_fft,
    shaped_noise,
    white_noise,
)
from fnl.data.synthesis.voice import Voice

_HOP = 2 * FRAME_SAMPLES
_N_FFT = 3 * _HOP
_HANN = np.hanning(2 * _HOP + 1)[:-1].astype(np.float32)
_FREQUENCY_HZ = np.fft.rfftfreq(_N_FFT, 1 / SAMPLE_RATE)

_BANDWIDTHS_HZ = np.array([70.0, 100.0, 150.0])
_UPPER_FORMANTS_HZ = np.array([3500.0, 4500.0, 5500.0, 6500.0, 7500.0])
_UPPER_BANDWIDTHS_HZ = np.array([250.0, 350.0, 450.0, 600.0, 800.0])
_HIGHEST_FORMANT_HZ = 7900.0

_CACHED_VOICES = 128
_SHIMMER = 0.08
_ASPIRATION_GAIN = 0.25 / 6
_FRICATION_GAIN = 0.12 / 6
_FRICATION_RAMP = _HOP


def render(
    articulation: Articulation,
    pitch_hz: NDArray[np.float64],
    voice: Voice,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the speech signal of one utterance, without room or microphone.

    Args:
        articulation: control tracks of T frames.
        pitch_hz: [T], fundamental frequency.
        voice: the speaker's.
        generator: the clip's stream; decides shimmer and noise.

    Returns:
        float32, at least T · `FRAME_SAMPLES` long; the level is arbitrary.
    """
    frames = len(articulation.voicing)
    blocks = -(-frames // 2) + 2
    sources = np.zeros((2, blocks * _HOP), dtype=np.float32)
    # The first frame is centred on sample 0, so half a frame of silence comes before it.
    inside = slice(_HOP, _HOP + frames * FRAME_SAMPLES)
    sources[0, inside] = glottal_pulses(articulation.voicing, pitch_hz, generator)
    breath = articulation.aspiration + voice.breathiness * articulation.voicing
    noise = white_noise(frames * FRAME_SAMPLES, generator).reshape(frames, FRAME_SAMPLES)
    sources[1, inside] = (noise * breath.astype(np.float32)[:, None]).reshape(-1)

    halves = sources.reshape(2, blocks, _HOP)
    windowed = np.concatenate((halves[:, :-1], halves[:, 1:]), axis=2) * _HANN
    spectra = real_fft(windowed, _N_FFT)
    filters = _source_filters(voice)
    excitation = spectra[0] * filters[0] + spectra[1] * filters[1]
    centres = np.minimum(2 * np.arange(blocks - 1), frames - 1)
    tract = tract_response(
        articulation.formants_hz[centres] * voice.tract_scale,
        _BANDWIDTHS_HZ * voice.bandwidth_scale,
    )
    speech = _overlap_add(inverse_real_fft(excitation * tract, _N_FFT))[_HOP:]
    for burst in articulation.frication:
        _add_frication(speech, burst, generator)
    return speech


def glottal_pulses(
    voicing: NDArray[np.float64], pitch_hz: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return a pulse train [T · `FRAME_SAMPLES`] with one pulse a period and 8 % shimmer.

    Pulses shrink with the square root of the pitch, so that loudness does not depend on it.
    """
    frames = len(voicing)
    phase = np.concatenate(([0.0], np.cumsum(pitch_hz * (FRAME_SAMPLES / SAMPLE_RATE))))
    edges = np.arange(frames + 1)
    instants = np.interp(np.arange(1, np.floor(phase[-1]) + 1), phase, edges)
    samples = np.minimum((instants * FRAME_SAMPLES).astype(np.int64), frames * FRAME_SAMPLES - 1)
    amplitude = np.interp(instants, edges[:-1], voicing)
    amplitude /= np.sqrt(np.interp(instants, edges[:-1], pitch_hz) / 100)
    amplitude *= 1 + _SHIMMER * generator.standard_normal(len(instants))
    pulses = np.zeros(frames * FRAME_SAMPLES, dtype=np.float32)
    pulses[samples] = amplitude
    return pulses


def tract_response(
    formants_hz: NDArray[np.float64], bandwidths_hz: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """Return the response [T, n_fft / 2 + 1] of cascaded resonators with unit gain at 0 Hz.

    One resonator is (1 − b − c) / (1 − b z⁻¹ − c z⁻²) with b = 2 exp(−πB/f) cos(2πF/f) and
    c = −exp(−2πB/f) at sample rate f. The cascade's denominator is multiplied out first: one
    FFT of its coefficients, and no complex division, replace a response for each resonator.

    Args:
        formants_hz: [T, K], centre frequencies F.
        bandwidths_hz: [K], bandwidths B.
    """
    radius = np.exp(-np.pi / SAMPLE_RATE * bandwidths_hz)
    linear = -2 * radius * np.cos(2 * np.pi / SAMPLE_RATE * formants_hz)
    quadratic = radius**2
    order = 2 * len(bandwidths_hz)
    denominator = np.zeros((len(formants_hz), order + 1))
    denominator[:, 0] = 1
    for k in range(len(bandwidths_hz)):
        previous = denominator.copy()
        denominator[:, 1:] += linear[:, k, None] * previous[:, :-1]
        denominator[:, 2:] += quadratic[k] * previous[:, :-2]
    gain = denominator.sum(axis=1, keepdims=True).astype(np.float32)
    spectrum = real_fft(denominator.astype(np.float32), _N_FFT)
    return spectrum.conj() * (gain / (spectrum.real**2 + spectrum.imag**2))


@lru_cache(maxsize=_CACHED_VOICES)
def _source_filters(voice: Voice) -> NDArray[np.complex64]:
    """Return what does not change within an utterance [2, n_fft / 2 + 1]: for pulses, for breath.

    Both hold the formants above the third; the pulses also the glottal low-pass, the voice's
    tilt and the missing lowest frequencies, breath a high-pass at 800 Hz.
    """
    upper_hz = _UPPER_FORMANTS_HZ * voice.tract_scale
    below = upper_hz < _HIGHEST_FORMANT_HZ
    upper = tract_response(upper_hz[None, below], _UPPER_BANDWIDTHS_HZ[below])[0]
    hz = _FREQUENCY_HZ
    pulse = (
        (1 + (hz / voice.glottal_cutoff_hz) ** 2) ** -0.5
        * (1 + (hz / 2500) ** 2) ** (-0.25 * voice.tilt_order)
        * (hz / (hz + 50))
    )
    breath = _ASPIRATION_GAIN * hz / (hz + 800)
    return (upper * np.stack((pulse, breath))).astype(np.complex64)


def _overlap_add(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum [(T + 2) · hop] of frames [T, 3 · hop] that start a hop apart."""
    count = len(frames)
    thirds = frames.reshape(count, 3, _HOP)
    signal = np.zeros((count + 2, _HOP), dtype=np.float32)
    for third in range(3):
        signal[third : third + count] += thirds[:, third]
    return signal.reshape(-1)


def _add_frication(
    speech: NDArray[np.float32], burst: NoiseBurst, generator: np.random.Generator
) -> None:
    """Add noise with a Gaussian spectrum to `speech`, faded in and out over 10 ms."""
    length = (burst.stop - burst.start) * FRAME_SAMPLES + _FRICATION_RAMP
    hz = np.linspace(0, SAMPLE_RATE / 2, fast_length(length) // 2 + 1, dtype=np.float32)
    shape = np.exp(-0.5 * ((hz - burst.centre_hz) / burst.bandwidth_hz) ** 2)
    noise = shaped_noise(shape, generator)[:length]
    noise[:_FRICATION_RAMP] *= _HANN[:_HOP]
    noise[-_FRICATION_RAMP:] *= _HANN[_HOP:]
    noise *= np.float32(_FRICATION_GAIN * burst.level)
    start = burst.start * FRAME_SAMPLES - _FRICATION_RAMP // 2
    stop = min(start + length, len(speech))
    speech[max(start, 0) : stop] += noise[max(-start, 0) : stop - start]
