"""Server noise that is correlated over rounds, so that much of it cancels in the global model.

A global model is the start plus the sum of all rounds' aggregates, and so of all rounds' noise. Of
independent noise that sum grows as √t. Let C be lower triangular, Toeplitz, with b bands, columns
of length 1: the rounds' noise C⁻¹W, W independent, has a smaller sum (DP-FTRL by matrix
factorisation: Denisov et al. 2022, arXiv 2202.08312; banded: Choquette-Choo et al. 2023, arXiv
2306.08153). The bands are the first b coefficients of (1 - x)^(-1/2), the square root of summing
(Fichtenberger, Henzinger & Upadhyay 2022, arXiv 2202.11205; banded: Kalinin & Lampert 2024, arXiv
2405.13763).

**Privacy.** What is released is post-processing of CX + zW, X the rounds' clipped sums in parts of
their bound. Of a client that is asked k times, at least b rounds apart, the columns of C have no
row in common, so all its part moves CX by at most √k: as k Gaussian mechanisms of multiplier z,
which is what the ledger has. That X depends on earlier releases changes nothing (Denisov et al.,
theorem 2.1: Gaussian noise, C lower triangular).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.privacy.noise import noise_source
from fnl.randomness import Purpose


class Normal(Protocol):
    """What an aggregate draws its noise from."""

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return normal numbers of mean `loc`, in units of `scale`."""
        ...


def band(bands: int) -> NDArray[np.float64]:
    """Return the first column of C, float64 [b] of length 1."""
    steps = np.arange(1, bands)
    column = np.cumprod(np.concatenate([[1.0], (2 * steps - 1) / (2 * steps)]))
    return column / np.linalg.norm(column)


class BandedNoise:
    """The noise of a run's rounds, C⁻¹W: round by round, array by array.

    W comes from a named stream of each round and array, so that a run that goes on draws again what
    has been drawn before it stopped, and noise of a round is the same whenever it is asked for.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._band = band(config.privacy.client_bands)
        self._drawn: dict[int, tuple[int, list[NDArray[np.float64]]]] = {}

    def of_round(self, server_round: int) -> Normal:
        """Return the noise of a round, to be drawn for one array after the other."""
        return _OfRound(self, server_round)

    def draw(self, server_round: int, array: int, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Return row `server_round` of C⁻¹W of one array: w_t - Σ_j c_j z_{t-j}, over c_0."""
        done, past = self._drawn.get(array, (0, []))
        if done >= server_round:  # a round that is asked for again
            done, past = 0, []
        for number in range(done + 1, server_round + 1):
            source = noise_source(self._config, Purpose.BANDED_NOISE, number, array)
            row = source.normal(0.0, 1.0, size)
            for weight, earlier in zip(self._band[1:], reversed(past), strict=False):
                row = row - weight * earlier
            past = [*past, row / self._band[0]][-max(1, len(self._band) - 1) :]
        self._drawn[array] = server_round, past
        return past[-1]


class _OfRound:
    def __init__(self, noise: BandedNoise, server_round: int) -> None:
        self._noise, self._round, self._array = noise, server_round, 0

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        drawn = self._noise.draw(self._round, self._array, size)
        self._array += 1
        return loc + scale * drawn
