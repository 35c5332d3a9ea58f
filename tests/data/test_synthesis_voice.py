"""The synthesiser against phonetics: formants, pitch, noise spectra measured in its output."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz
from scipy.signal import get_window, resample_poly, welch

from fnl.data.synthesis.articulation import (
    FRAME_SAMPLES,
    Articulation,
    NoiseBurst,
    articulate,
    smooth,
)
from fnl.data.synthesis.lexicon import LEXICON
from fnl.data.synthesis.phonemes import (
    DIPHTHONGS,
    FRICATIVES,
    GLOTTAL_FRICATIVE,
    RESONANTS,
    STOPS,
    VOWELS,
)
from fnl.data.synthesis.prosody import pitch_contour
from fnl.data.synthesis.source_filter import glottal_pulses, render, tract_response
from fnl.data.synthesis.voice import Voice, draw_voice
from fnl.data.words import CORE_WORDS

SAMPLE_RATE = 16_000

# Peterson & Barney (1952), table II, men: retyped here, so that a slip in the table shows.
PETERSON_BARNEY_MEN = {"IY": (270, 2290), "AA": (730, 1090), "UW": (300, 870), "AE": (660, 1720)}


def sustained(vowel: str, voice: Voice, pitch_hz: float, frames: int = 120) -> np.ndarray:
    """A steady vowel, without room or noise."""
    articulation = Articulation(
        formants_hz=np.tile(voice.targets_hz[vowel], (frames, 1)),
        voicing=np.ones(frames),
        aspiration=np.zeros(frames),
    )
    generator = np.random.default_rng(1)
    return render(articulation, np.full(frames, pitch_hz), voice, generator).astype(np.float64)


def lpc_formants_hz(signal: np.ndarray) -> np.ndarray:
    """Formants by linear prediction of order 10 at 8 kHz (autocorrelation method)."""
    signal = resample_poly(signal, 1, 2)[800:-800]
    signal = np.append(signal[0], signal[1:] - 0.9 * signal[:-1])
    signal = signal * get_window("hamming", len(signal))
    lags = np.correlate(signal, signal, "full")[len(signal) - 1 :][:11]
    lags[0] *= 1 + 1e-9
    predictor = solve_toeplitz(lags[:10], lags[1:11])
    roots = np.roots(np.concatenate(([1.0], -predictor)))
    hz = np.angle(roots) * 8000 / (2 * np.pi)
    bandwidth = -np.log(np.abs(roots)) * 8000 / np.pi
    return np.sort(hz[(hz > 150) & (bandwidth < 400)])


@pytest.mark.parametrize("vowel", PETERSON_BARNEY_MEN)
def test_measured_formants_of_a_clean_vowel_are_those_of_the_literature(vowel):
    measured = lpc_formants_hz(sustained(vowel, Voice(), pitch_hz=100))[:2]
    np.testing.assert_allclose(measured, PETERSON_BARNEY_MEN[vowel], rtol=0.08, atol=30)


def test_a_shorter_vocal_tract_raises_all_formants_in_proportion():
    long_tract = lpc_formants_hz(sustained("AE", Voice(), pitch_hz=100))[:2]
    short_tract = lpc_formants_hz(sustained("AE", Voice(tract_scale=1.17), pitch_hz=100))[:2]
    np.testing.assert_allclose(short_tract / long_tract, 1.17, rtol=0.05)


@pytest.mark.parametrize("pitch_hz", [90.0, 140.0, 230.0])
def test_harmonics_lie_at_multiples_of_the_pitch(pitch_hz):
    signal = sustained("AH", Voice(), pitch_hz, frames=200)[:SAMPLE_RATE]
    power = np.abs(np.fft.rfft(signal * np.hanning(SAMPLE_RATE))) ** 2
    hz = np.fft.rfftfreq(SAMPLE_RATE, 1 / SAMPLE_RATE)
    nearest = np.maximum(np.round(hz / pitch_hz), 1) * pitch_hz
    assert power[np.abs(hz - nearest) < 6].sum() > 0.9 * power.sum()


def test_there_is_one_pulse_a_period_even_while_the_pitch_moves():
    pitch_hz = np.linspace(80, 300, 200)
    pulses = glottal_pulses(np.ones(200), pitch_hz, np.random.default_rng(0))
    cycles = np.sum(pitch_hz) * FRAME_SAMPLES / SAMPLE_RATE
    assert np.count_nonzero(pulses) in (int(cycles), round(cycles))
    instants = np.flatnonzero(pulses)
    middles = (instants[1:] + instants[:-1]) / 2 / FRAME_SAMPLES
    expected = SAMPLE_RATE / np.interp(middles, np.arange(200) + 0.5, pitch_hz)
    np.testing.assert_allclose(np.diff(instants), expected, atol=2)


def test_the_tract_is_a_cascade_of_klatt_resonators():
    formants, bandwidths = np.array([[500.0, 1500.0, 2500.0]]), np.array([60.0, 90.0, 120.0])
    expected = np.ones(241, dtype=complex)
    for formant, bandwidth in zip(formants[0], bandwidths, strict=True):
        c = -np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
        b = 2 * np.exp(-np.pi * bandwidth / SAMPLE_RATE) * np.cos(2 * np.pi * formant / SAMPLE_RATE)
        delay = np.exp(-2j * np.pi * np.fft.rfftfreq(480))
        expected *= (1 - b - c) / (1 - b * delay - c * delay**2)
    response = tract_response(formants, bandwidths)[0]
    np.testing.assert_allclose(response, expected, rtol=2e-3, atol=1e-4)


def test_frication_has_the_obstruents_spectrum_and_place_in_time():
    frames = 60
    hiss = FRICATIVES["SH"]
    burst = NoiseBurst(20, 40, hiss.centre_hz, hiss.bandwidth_hz, hiss.level)
    silent = Articulation(
        np.full((frames, 3), 1000.0), np.zeros(frames), np.zeros(frames), frication=(burst,)
    )
    signal = render(silent, np.full(frames, 100.0), Voice(), np.random.default_rng(0))
    start, stop = 20 * FRAME_SAMPLES, 40 * FRAME_SAMPLES
    energy = np.sum(signal**2)
    assert np.sum(signal[start:stop] ** 2) > 0.97 * energy
    hz, power = welch(signal[start:stop].astype(np.float64), SAMPLE_RATE, nperseg=512)
    centroid = np.sum(hz * power) / np.sum(power)
    assert centroid == pytest.approx(hiss.centre_hz, rel=0.05)
    # Power falls with a Gaussian of 1/√2 of the amplitude's standard deviation.
    spread = np.sqrt(np.sum((hz - centroid) ** 2 * power) / np.sum(power))
    assert spread == pytest.approx(hiss.bandwidth_hz / np.sqrt(2), rel=0.1)


def test_a_diphthong_glides_from_its_first_vowel_to_its_last():
    articulation = articulate(("AY",), Voice(), np.random.default_rng(3))
    first, last = articulation.formants_hz[0, :2], articulation.formants_hz[-1, :2]
    np.testing.assert_allclose(first, RESONANTS["AA"][:2], rtol=0.15)
    np.testing.assert_allclose(last, RESONANTS["IH"][:2], rtol=0.15)
    assert articulation.formants_hz[-1, 1] > articulation.formants_hz[0, 1] + 500


def test_a_stop_is_a_silence_and_then_a_burst():
    articulation = articulate(LEXICON["stop"], Voice(), np.random.default_rng(0))
    hiss, burst = articulation.frication[:2]
    closure = slice(hiss.stop, burst.start)
    assert 30 <= (burst.start - hiss.stop) * 5 <= 120  # ms
    assert np.max(articulation.voicing[closure]) < 0.05
    vowel_onset = burst.stop + 6
    assert np.max(articulation.aspiration[:vowel_onset]) == 0  # none after /s/


def test_longer_words_last_longer_and_tempo_scales_durations():
    def mean_frames(word: str, voice: Voice) -> float:
        lengths = [
            len(articulate(LEXICON[word], voice, np.random.default_rng(seed)).voicing)
            for seed in range(30)
        ]
        return float(np.mean(lengths))

    assert mean_frames("seven", Voice()) > mean_frames("up", Voice()) * 1.3
    slow, normal = mean_frames("yes", Voice(duration_scale=1.5)), mean_frames("yes", Voice())
    assert slow / normal == pytest.approx(1.5, rel=0.03)


def test_the_pitch_contour_stays_around_the_voices_pitch():
    contours = [
        pitch_contour(100, Voice(pitch_hz=200), np.random.default_rng(s)) for s in range(50)
    ]
    assert all(contour.min() > 120 and contour.max() < 300 for contour in contours)
    assert np.mean(contours) == pytest.approx(200, rel=0.06)


def test_voices_differ_as_people_do():
    voices = [draw_voice(np.random.default_rng(s), 1.5) for s in range(400)]
    pitch = np.array([voice.pitch_hz for voice in voices])
    tract = np.array([voice.tract_scale for voice in voices])
    assert 0.35 < np.mean(pitch > 160) < 0.65  # women and children
    assert np.mean(tract[pitch > 160]) / np.mean(tract[pitch < 160]) == pytest.approx(
        1.17, rel=0.03
    )
    assert np.std([voice.accent for voice in voices]) == pytest.approx(0.05 + 0.03 * 1.5, rel=0.05)


def test_smoothing_keeps_a_constant_and_the_mean_of_a_step():
    np.testing.assert_allclose(smooth(np.full(20, 3.0), 7), 3.0)
    step = smooth(np.repeat([0.0, 1.0], 20), 7)
    assert np.all(np.diff(step) >= 0)
    assert step.mean() == pytest.approx(0.5)


def test_the_lexicon_is_speech_commands_and_every_phoneme_can_be_said():
    known = {*VOWELS, *DIPHTHONGS, *RESONANTS, *FRICATIVES, *STOPS, GLOTTAL_FRICATIVE}
    assert len(LEXICON) == 35
    assert {phoneme for phonemes in LEXICON.values() for phoneme in phonemes} <= known
    assert len(set(CORE_WORDS)) == 10
    assert set(CORE_WORDS) <= set(LEXICON)
    assert len(set(LEXICON.values())) == 35


def test_phonemes_without_any_formants_cannot_be_articulated():
    with pytest.raises(ValueError, match="no phoneme with formants in S T"):
        articulate(("S", "T"), Voice(), np.random.default_rng(0))
