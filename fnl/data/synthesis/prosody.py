"""The pitch contour of one utterance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fnl.data.corpus import SAMPLE_RATE
from fnl.data.synthesis.articulation import FRAME_SAMPLES
from fnl.data.synthesis.voice import Voice

_TOKEN_SPREAD = 0.05
_DRIFT = 0.01
_VIBRATO_DEPTH = 0.012


def pitch_contour(frames: int, voice: Voice, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the fundamental frequency [frames] in Hz.

    The contour falls, rises at the end or falls and rises, scaled by the voice's intonation; a
    random drift and a 5-6 Hz vibrato keep it from being a machine's.
    """
    progress = np.linspace(0, 1, frames)
    shape = generator.integers(3)
    if shape == 0:
        contour = -0.18 * progress
    elif shape == 1:
        contour = 0.22 * progress**2 - 0.05 * progress
    else:
        contour = 0.18 * progress**2 - 0.25 * progress
    register = voice.pitch_hz * np.exp(generator.normal(0, _TOKEN_SPREAD))
    drift = _DRIFT * np.cumsum(generator.standard_normal(frames)) / np.sqrt(frames)
    seconds = np.arange(frames) * (FRAME_SAMPLES / SAMPLE_RATE)
    vibrato = _VIBRATO_DEPTH * np.sin(2 * np.pi * (5 + generator.random()) * seconds)
    return register * (1 + voice.intonation * contour + drift + vibrato)
