"""From a word to control tracks: what the formants and the sources do over time.

A phoneme becomes one to three segments with constant (diphthongs: gliding) targets and random
durations; smoothing the targets over about 50 ms makes the coarticulation. Obstruents without
formants of their own borrow a neighbour's and pull the second towards their locus
(Delattre, Liberman & Cooper 1955).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.data.synthesis.phonemes import (
    APPROXIMANTS,
    DIPHTHONGS,
    FRICATIVES,
    GLOTTAL_FRICATIVE,
    NASALS,
    RESONANTS,
    SIBILANTS,
    STOPS,
    VOWELS,
    Obstruent,
)
from fnl.data.synthesis.voice import Voice

FRAME_SAMPLES = 80
"""Samples a frame of the control tracks: 5 ms at 16 kHz."""

_FRAME_MS = 5.0
_FORMANT_SMOOTHING = 11
_SOURCE_SMOOTHING = 7
_FINAL_LENGTHENING = 1.25
_POLYSYLLABIC_SHORTENING = 1.35
_UNRELEASED = 0.4
_CLOSURE_FIRST_FORMANT_HZ = 300.0
_TOKEN_SPREAD = 0.03


@dataclass(frozen=True)
class NoiseBurst:
    """Turbulence of one obstruent from frame `start` to before frame `stop`."""

    start: int
    stop: int
    centre_hz: float
    bandwidth_hz: float
    level: float


@dataclass(frozen=True, eq=False)
class Articulation:
    """Control tracks of one utterance, a value every `FRAME_SAMPLES`.

    Attributes:
        formants_hz: [T, 3], before the voice's tract scale.
        voicing: [T], amplitude of the glottal pulses.
        aspiration: [T], amplitude of the glottal noise.
        frication: noise made above the glottis.
    """

    formants_hz: NDArray[np.float64]
    voicing: NDArray[np.float64]
    aspiration: NDArray[np.float64]
    frication: tuple[NoiseBurst, ...] = ()


def smooth(track: NDArray[np.float64], taps: int) -> NDArray[np.float64]:
    """Smooth a track [T] with a Hann kernel of `taps` (odd) values, holding its ends."""
    reach = taps // 2
    held = np.concatenate((track[:1].repeat(reach), track, track[-1:].repeat(reach)))
    return np.convolve(held, _hann_kernel(taps), "valid")


@cache
def _hann_kernel(taps: int) -> NDArray[np.float64]:
    kernel = np.hanning(taps + 2)[1:-1]
    return kernel / kernel.sum()


class _Score:
    """Collects the segments of one utterance and unrolls them into tracks."""

    def __init__(self, voice: Voice, generator: np.random.Generator) -> None:
        self._voice = voice
        self._generator = generator
        self._tempo = voice.duration_scale * np.exp(generator.normal(0, 0.10)) / _FRAME_MS
        self._length = 0
        self._segments: list[tuple[Any, ...]] = []  # frames, onset, offset, voicing, aspiration
        self._frication: list[NoiseBurst] = []

    def target(self, phoneme: str) -> NDArray[np.float64]:
        """Return this token's formants [3]: the accent's target, a little off every time."""
        spread = _TOKEN_SPREAD * self._generator.standard_normal(3)
        return self._voice.targets_hz[phoneme] * (1 + spread)

    def add(
        self,
        milliseconds: float,
        onset_hz: NDArray[np.float64],
        voicing: float,
        *,
        offset_hz: NDArray[np.float64] | None = None,
        aspiration: float = 0.0,
        noise: tuple[Obstruent, float, float] | None = None,
    ) -> None:
        """Add a segment; `noise` is an obstruent, a factor on its level, one on its bandwidth."""
        jitter = np.exp(self._generator.normal(0, 0.12))
        frames = max(round(milliseconds * self._tempo * jitter), 1)
        offset_hz = onset_hz if offset_hz is None else offset_hz
        self._segments.append((frames, onset_hz, offset_hz, voicing, aspiration))
        if noise is not None:
            source, level, width = noise
            self._frication.append(
                NoiseBurst(
                    start=self._length,
                    stop=self._length + frames,
                    centre_hz=source.centre_hz * self._voice.frication_scale,
                    bandwidth_hz=source.bandwidth_hz * width,
                    level=source.level * self._voice.frication_level * level,
                )
            )
        self._length += frames

    def articulation(self) -> Articulation:
        """Return the smoothed tracks of all segments added so far."""
        columns = [np.array(column) for column in zip(*self._segments, strict=True)]
        frames = columns[0]
        segment = np.repeat(np.arange(len(frames)), frames)
        starts = np.cumsum(frames) - frames
        progress = ((np.arange(self._length) - starts[segment]) / frames[segment])[:, None]
        onsets, offsets, voicing, aspiration = (column[segment] for column in columns[1:])
        formants = onsets + (offsets - onsets) * progress
        return Articulation(
            formants_hz=np.stack([smooth(track, _FORMANT_SMOOTHING) for track in formants.T], 1),
            voicing=smooth(voicing, _SOURCE_SMOOTHING),
            aspiration=smooth(aspiration, _SOURCE_SMOOTHING),
            frication=tuple(self._frication),
        )


def articulate(
    phonemes: tuple[str, ...], voice: Voice, generator: np.random.Generator
) -> Articulation:
    """Return the control tracks of one utterance.

    Args:
        phonemes: of one word, from the tables of `phonemes`.
        voice: the speaker's.
        generator: the clip's stream; decides tempo, durations, token targets and releases.
    """
    score = _Score(voice, generator)
    syllables = sum(phoneme in VOWELS or phoneme in DIPHTHONGS for phoneme in phonemes)
    shortening = _POLYSYLLABIC_SHORTENING if syllables > 1 else 1.0
    for position, phoneme in enumerate(phonemes):
        final = position == len(phonemes) - 1
        lengthening = _FINAL_LENGTHENING if final else 1.0
        if phoneme in DIPHTHONGS:
            first, last = (score.target(vowel) for vowel in DIPHTHONGS[phoneme])
            score.add(210 * lengthening / shortening, first, 1.0, offset_hz=last)
        elif phoneme in VOWELS:
            score.add(150 * lengthening / shortening, score.target(phoneme), 1.0)
        elif phoneme in APPROXIMANTS:
            score.add(70 * lengthening, score.target(phoneme), 0.6)
        elif phoneme in NASALS:
            score.add(85 * lengthening, score.target(phoneme), 0.35)
        elif phoneme == GLOTTAL_FRICATIVE:
            neighbour = score.target(_neighbour(phonemes, position))
            score.add(65, neighbour, 0.05, aspiration=0.35)
        elif phoneme in FRICATIVES:
            _add_fricative(score, phonemes, position, lengthening)
        else:
            _add_stop(score, phonemes, position, released=not final or _releases(generator))
    return score.articulation()


def _releases(generator: np.random.Generator) -> bool:
    return generator.random() >= _UNRELEASED


def _add_fricative(
    score: _Score, phonemes: tuple[str, ...], position: int, lengthening: float
) -> None:
    source = FRICATIVES[phonemes[position]]
    formants = score.target(_neighbour(phonemes, position))
    formants[1] = 0.5 * formants[1] + 0.5 * source.locus_hz
    duration = 110 if phonemes[position] in SIBILANTS else 80
    score.add(duration * lengthening, formants, source.voicing, noise=(source, 1.0, 1.0))


def _add_stop(score: _Score, phonemes: tuple[str, ...], position: int, *, released: bool) -> None:
    """Add closure, burst and, unless voiced or after a fricative /S/, aspiration."""
    source = STOPS[phonemes[position]]
    voiced = source.voicing > 0
    formants = score.target(_neighbour(phonemes, position))
    formants[0] = _CLOSURE_FIRST_FORMANT_HZ
    formants[1] = 0.45 * formants[1] + 0.55 * source.locus_hz
    score.add(60, formants, 0.18 if voiced else 0.0)
    if not released:
        return
    score.add(10, formants, 0.0, noise=(source, 1.0, 1.0))
    if not voiced and (position == 0 or phonemes[position - 1] != "S"):
        score.add(45, formants, 0.0, aspiration=0.25, noise=(source, 0.15, 2.0))


def _neighbour(phonemes: tuple[str, ...], position: int) -> str:
    """Return the resonant phoneme that shapes the tract at an obstruent: the next, or the last."""
    for following in phonemes[position + 1 :]:
        resonant = DIPHTHONGS[following][0] if following in DIPHTHONGS else following
        if resonant in RESONANTS:
            return resonant
    for preceding in reversed(phonemes[:position]):
        resonant = DIPHTHONGS[preceding][1] if preceding in DIPHTHONGS else preceding
        if resonant in RESONANTS:
            return resonant
    raise ValueError(f"no phoneme with formants in {' '.join(phonemes)}")
