"""One speaker's vocal apparatus and habits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fnl.data.synthesis.phonemes import RESONANTS

_TARGETS_HZ = np.array(list(RESONANTS.values()), dtype=np.float64)


def _no_accent() -> NDArray[np.float64]:
    return np.zeros_like(_TARGETS_HZ)


@dataclass(frozen=True, eq=False)
class Voice:
    """What distinguishes one speaker's speech from another's.

    The defaults are a neutral adult male who speaks as the tables say.

    Attributes:
        pitch_hz: mean fundamental frequency.
        tract_scale: factor on all formants; above 1 is a shorter vocal tract.
        accent: [len(RESONANTS), 3], relative offset of each formant target.
        duration_scale: factor on all durations.
        intonation: depth of the pitch movements; 1 is average.
        bandwidth_scale: factor on the bandwidths of the first three formants.
        glottal_cutoff_hz: corner frequency of the glottal pulse's low-pass spectrum.
        tilt_order: extra spectral tilt above 2.5 kHz; each unit is 3 dB an octave.
        breathiness: aspiration noise mixed into voicing.
        frication_level: factor on the level of fricatives and bursts.
        frication_scale: factor on their centre frequency.
    """

    pitch_hz: float = 118.0
    tract_scale: float = 1.0
    accent: NDArray[np.float64] = field(default_factory=_no_accent)
    duration_scale: float = 1.0
    intonation: float = 1.0
    bandwidth_scale: float = 1.0
    glottal_cutoff_hz: float = 300.0
    tilt_order: float = 1.0
    breathiness: float = 0.0
    frication_level: float = 1.0
    frication_scale: float = 1.0

    @cached_property
    def targets_hz(self) -> dict[str, NDArray[np.float64]]:
        """Formant targets [3] of each resonant phoneme in this accent, before `tract_scale`."""
        return dict(zip(RESONANTS, _TARGETS_HZ * (1 + self.accent), strict=True))


def draw_voice(generator: np.random.Generator, difficulty: float) -> Voice:
    """Draw a voice: 45 % women, 8 % children, log-normal pitch, tract length and tempo.

    Args:
        generator: the speaker's stream.
        difficulty: widens the spread of accents; 0 or more.
    """
    higher = generator.random() < 0.45
    child = generator.random() < 0.08

    def around(centre: float, spread: float) -> float:
        return centre * float(np.exp(spread * generator.standard_normal()))

    return Voice(
        pitch_hz=around(210 if higher else 118, 0.14) * (1.25 if child else 1),
        tract_scale=around(1.16 if higher else 1, 0.06) * (1.12 if child else 1),
        accent=(0.05 + 0.03 * difficulty) * generator.standard_normal(_TARGETS_HZ.shape),
        duration_scale=around(1, 0.15),
        intonation=generator.uniform(0.3, 1.6),
        bandwidth_scale=around(1, 0.2),
        glottal_cutoff_hz=generator.uniform(150, 500),
        tilt_order=generator.uniform(0.5, 2),
        breathiness=generator.uniform(0, 0.12),
        frication_level=around(1, 0.4),
        frication_scale=around(1, 0.1),
    )
