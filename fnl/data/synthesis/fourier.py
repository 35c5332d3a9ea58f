"""Single-precision real FFTs with types, and noise shaped by them.

SciPy's FFT keeps float32 and is up to twice as fast as NumPy's here, but has no type stubs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

_UNIT_UNIFORM = np.float32(np.sqrt(12.0))


def real_fft(signal: NDArray[np.float32], n_fft: int) -> NDArray[np.complex64]:
    """Return the spectrum [..., n_fft / 2 + 1] of a zero-padded signal [..., up to n_fft]."""
    return np.asarray(fft.rfft(signal, n_fft))


def inverse_real_fft(spectrum: NDArray[np.complex64], n_fft: int) -> NDArray[np.float32]:
    """Return the signal [..., n_fft] of a spectrum [..., n_fft / 2 + 1]."""
    return np.asarray(fft.irfft(spectrum, n_fft))


def fast_length(length: int) -> int:
    """Return the smallest even n_fft of at least `length` for which the FFT is fast."""
    half = fft.next_fast_len((length + 1) // 2, real=True)
    if half is None:
        raise ValueError(f"no FFT length for {length} samples")
    return 2 * half


def white_noise(length: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return unit-variance uniform noise [length]; any filter makes it as good as Gaussian."""
    return (generator.random(length, dtype=np.float32) - np.float32(0.5)) * _UNIT_UNIFORM


def shaped_noise(
    amplitude: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return stationary noise [2 · (bins - 1)] with an amplitude spectrum [bins].

    An amplitude of 1 everywhere gives noise of about unit power.
    """
    bins = len(amplitude)
    n_fft = 2 * (bins - 1)
    spectrum = white_noise(2 * bins, generator).view(np.complex64)
    spectrum *= amplitude * np.float32(np.sqrt(n_fft / 2))
    return inverse_real_fft(spectrum, n_fft)
