"""Noise in shares: integers of which the sum alone is seen, and what the sum hides.

Clients add discrete Gaussian noise to integers and send them modulo 2^32 (distributed discrete
Gaussian: Kairouz, Liu & Steinke 2021, arXiv 2102.06387). What is different here, and why the ledger
may book the sum as one step of a continuous Gaussian mechanism of multiplier σ:

1. *Rounding.* A client's clipped sum is rounded to multiples of γ = C·2^−f. The unit is a clip, and
   one clip moves the sum by C before; rounding moves each of the P numbers by γ/2 at most, with and
   without the clip. So the integers move by at most Δ = 2^f + √P, always. Conditional randomised
   rounding, which they need at few bits, has a smaller bound with some probability; at γ/C = 2^−20
   the certain one costs √P·2^−20 of noise.
2. *The sum is no discrete Gaussian.* But the sum of n of parameter s is one of parameter s√n up to
   a factor e^±τ in every probability, τ ≤ 10(n − 1)·exp(−π²s²) a number (theirs is the sum over
   k < n of 10·exp(−2π²s²·k/(k + 1)), and k/(k + 1) ≥ 1/2).
3. *Nor is that a Gaussian.* Let Y be discrete Gaussian of parameter r around the output of a
   Gaussian mechanism of deviation √(v − r²). By Poisson summation the normalisation of Y is √(2π)·r
   up to a factor 1 ± η, η ≤ 3·exp(−2π²r²), wherever its centre is. So Y has the probabilities of a
   discrete Gaussian of variance v up to e^±2η: that one is post-processing of the Gaussian, and any
   analysis of the latter holds, with sampling and composition (the idea of Peikert's
   convolution of Gaussians, CRYPTO 2010; a test holds it and the bound).

With s and r of at least 8, (2) and (3) are below 1e-260 a number: `divergence`. ε over a run grows
by 2·T·P times that, which no double can hold. The modulus is post-processing; that it does not
wrap is a matter of accuracy, for which γ leaves room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.errors import ConfigError
from fnl.privacy.noise import NoiseSource

BITS = 32
"""Of the modulus: a number takes as many bytes as one of single precision."""
_LEAST = 8.0
"""r, and the least parameter of a share, in units: what is finer than a Gaussian is hidden."""
_TAIL = 12.0
"""Standard deviations of noise that the modulus has room for."""


@dataclass(frozen=True)
class SharedSum:
    """The arithmetic of a sum over clients.

    Attributes:
        numbers: P, of a client's vector.
        clip_norm: C, the most that one clip moves the sum before rounding.
        noise_multiplier: σ of the sum, as ledgers book it.
        survivors: t, how many shares make it up.
        clients: how many may add theirs.
        clips: how many clips all of them have.

    Raises:
        ConfigError: if so many clips leave no fine grid.
    """

    numbers: int
    clip_norm: float
    noise_multiplier: float
    survivors: int
    clients: int
    clips: int

    def __post_init__(self) -> None:
        if self.fraction_bits < 1 or self.share < _LEAST:
            raise ConfigError(
                f"privacy.noise = 'distributed': {self.clips} clips leave {self.fraction_bits} of "
                f"{BITS} bits for the fractions of privacy.clip-norm, too few for shares of noise "
                f"of {self.noise_multiplier:.3g}: use privacy.noise = 'local'"
            )

    @property
    def fraction_bits(self) -> int:
        """f: γ = C·2^−f, as fine as leaves room for every clip at its bound, and the noise."""
        noise = _TAIL * self.noise_multiplier * math.sqrt(self.clients / self.survivors)
        return BITS - 1 - math.ceil(math.log2(self.clips + noise + 1))

    @property
    def unit(self) -> float:
        """γ, what one unit of the integers stands for."""
        return self.clip_norm * 2.0**-self.fraction_bits

    @property
    def sensitivity(self) -> float:
        """Δ, the most that one clip moves the integers, in L2."""
        return 2.0**self.fraction_bits + math.sqrt(self.numbers)

    @property
    def share(self) -> float:
        """s, the parameter of a client's discrete Gaussian."""
        whole = (self.noise_multiplier * self.sensitivity) ** 2 + _LEAST**2
        return math.sqrt(whole / self.survivors)

    def divergence(self, summed: int) -> float:
        """Return a bound on |log| of how probabilities differ from those of the Gaussian's.

        Args:
            summed: how many shares there are.
        """
        share = 10 * (summed - 1) * math.exp(-((math.pi * self.share) ** 2))
        return self.numbers * (share + 6 * math.exp(-2 * (math.pi * _LEAST) ** 2))

    def rounded(self, total: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return a clipped sum [P] in units."""
        return np.rint(total / self.unit).astype(np.int64)

    def noised(self, total: NDArray[np.float64], source: NoiseSource) -> NDArray[np.uint32]:
        """Return a clipped sum [P] with a share of the noise, modulo 2^32."""
        noise = discrete_gaussian(self.share, total.size, source)
        return (self.rounded(total) + noise).astype(np.uint32)

    def meant(self, opened: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return the sum that its remainder [P] stands for."""
        return opened.astype(np.int32) * np.float64(self.unit)


def discrete_gaussian(parameter: float, size: int, source: NoiseSource) -> NDArray[np.int64]:
    """Return independent integers of probability ∝ exp(−y²/2s²), [size].

    Rejection from a discrete Laplace distribution (Canonne, Kamath & Steinke 2020, arXiv
    2004.00010, algorithm 3), whose scale is a power of two, so that its low part is drawn exactly.
    Probabilities of acceptance are in double precision: in total variation a number is within
    1e-14 of the law.

    Args:
        parameter: s, at most 2^40.
        size: how many.
        source: of uniform numbers.
    """
    bits = max(0, math.ceil(math.log2(parameter)))
    scale, variance = 2**bits, parameter**2
    drawn = np.empty(size, np.int64)
    left = np.arange(size)
    while left.size:
        low = np.floor(source.uniform(size=left.shape) * scale)
        high = np.floor(-np.log1p(-source.uniform(size=left.shape)))
        length = low + scale * high
        below = source.uniform(size=left.shape) < 0.5
        probability = np.exp(-low / scale)
        laplace = (source.uniform(size=left.shape) < probability) & ~(below & (length == 0))
        probability = np.exp(-((length - variance / scale) ** 2) / (2 * variance))
        accepted = laplace & (source.uniform(size=left.shape) < probability)
        drawn[left[accepted]] = np.where(below, -length, length)[accepted]
        left = left[~accepted]
    return drawn
