"""Read coins out of noisy sums: which of m known vectors were added up?

A round releases y = a(G b + c w) + noise: G [D, m] holds what each canary would contribute, b in
{0, 1}^m are the coins, w [D] is what the clips that are no canaries contribute, c and a are
unknown scales. The decoder is the linear minimum mean-square error estimate of b over all rounds:
it takes the other canaries and the known clips out as far as the noise is worth it. Noise and
scale are estimated from the release itself, so it works for any optimizer, and for mechanisms
whose noise is not what they claim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-10


class CoinDecoder:
    """Collects the rounds of one client; `scores` then judges each canary."""

    def __init__(self, canaries: int) -> None:
        size = canaries + 1
        self._canaries = canaries
        self._gram = np.zeros((size, size))
        self._correlation = np.zeros(size)
        self._energy = 0.0
        self._equations = 0

    def add(
        self,
        contributions: NDArray[np.float64],
        known: NDArray[np.float64],
        release: NDArray[np.float64],
    ) -> None:
        """Take one round in.

        Args:
            contributions: of each canary if it were included, [m, D].
            known: what the other clips contribute together, [D].
            release: what was released, in any scale that is the same in all rounds, [D].
        """
        columns = np.vstack([contributions, known[None]])
        self._gram += columns @ columns.T
        self._correlation += columns @ release
        self._energy += float(release @ release)
        self._equations += len(release)

    def scores(self) -> NDArray[np.float64]:
        """Return for each canary the log likelihood ratio of in against out, float64 [m].

        The coins of the others are taken as Gaussian, so it is exact only for many canaries.

        Raises:
            ValueError: if there are not more equations than canaries.
        """
        freedom = self._equations - self._canaries - 1
        if freedom < 1:
            raise ValueError(
                f"{self._equations} released numbers cannot tell {self._canaries} canaries apart: "
                "take fewer canaries or more rounds"
            )
        scale = float(np.mean(np.diag(self._gram))) or 1.0
        ridge = _RIDGE * scale * np.eye(len(self._gram))
        inverse = np.linalg.inv(self._gram + ridge)
        least_squares = inverse @ self._correlation
        residual = self._energy - float(self._correlation @ least_squares)
        variance = max(residual / freedom, 1e-16 * self._energy / self._equations, 1e-300)
        # a coin is worth a/2 on average: the mean over canaries gives the scale a of the release
        errors = variance * np.diag(inverse)[:-1]
        unit = max(2 * float(least_squares[:-1].mean()), 1e-3 * float(np.sqrt(errors.mean())))
        prior = np.append(np.full(self._canaries, 4 / unit**2), 0.0)
        precision = self._gram / variance + np.diag(prior) + ridge / variance
        covariance = np.linalg.inv(precision)
        mean = covariance @ (self._correlation / variance + prior * unit / 2)
        return unit * (mean - unit / 2)[:-1] / np.diag(covariance)[:-1]
