"""The privacy loss of one step of the Poisson-subsampled Gaussian mechanism.

Opacus' distribution of it (Gopi, Lee & Wutschitz 2021, arXiv 2106.02848, propositions B.1 and B.4),
with what is slow there done in another way: the distribution function is computed only where it is
neither 0 nor 1, and the mean is one sum instead of an adaptive integral in twenty pieces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from opacus.accountants.analysis.prv import (
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
)

_TAIL = 9.0
"""Standard deviations beyond which a normal variable has probability 1e-19: 1 less it is 1."""
_POINTS = 2048


class SubsampledGaussianLoss(PoissonSubsampledGaussianPRV):
    """log(1 − q + q·exp((2x − 1)/2σ²)) of the output x, normal about 1 in a share q, else about 0.

    The deviation is σ. The loss grows with x.
    """

    def of_output(self, output: ArrayLike) -> NDArray[np.float64]:
        """Return the loss at each `output`."""
        rate, sigma = self.sample_rate, self.noise_multiplier
        exponent = (2 * np.asarray(output, dtype=np.float64) - 1) / (2 * sigma**2)
        with np.errstate(divide="ignore"):  # log(1 - q) at q = 1
            return np.logaddexp(np.log1p(-rate), np.log(rate) + exponent)

    def output(self, loss: float) -> float:
        """Return the output at which the loss is `loss`; -inf where it is always larger."""
        rate, sigma = self.sample_rate, self.noise_multiplier
        share = (1 - rate) * np.exp(-loss)  # of the outputs about 0
        if share >= 1:
            return -np.inf
        return float(sigma**2 * (loss + np.log1p(-share) - np.log(rate)) + 0.5)

    def cdf(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that the loss is at most `t`, for each `t`."""
        t = np.asarray(t, dtype=np.float64)
        tail = _TAIL * self.noise_multiplier
        low, high = self.of_output([-tail, 1 + tail])
        below = np.asarray(t >= high, dtype=np.float64)
        between = (t > low) & (t < high)
        below[between] = super().cdf(t[between])
        return below


class TruncatedLoss(TruncatedPrivacyRandomVariable):
    """A `SubsampledGaussianLoss` given that it lies in [t_min, t_max]."""

    def __init__(self, loss: SubsampledGaussianLoss, t_min: float, t_max: float) -> None:
        super().__init__(loss, t_min, t_max)
        self._loss = loss

    def mean(self) -> float:
        """Return the mean, as an integral over the output.

        It is smooth and has fallen off at both ends, where little may be cut off: there the
        trapezoidal rule converges exponentially (Trefethen & Weideman 2014).
        """
        rate, sigma = self._loss.sample_rate, self._loss.noise_multiplier
        low = max(self._loss.output(self.t_min), -(_TAIL + 3) * sigma)
        high = min(self._loss.output(self.t_max), 1 + (_TAIL + 3) * sigma)
        x = np.linspace(low, high, _POINTS)
        density = (1 - rate) * np.exp(-((x / sigma) ** 2) / 2)
        density += rate * np.exp(-(((x - 1) / sigma) ** 2) / 2)
        density[[0, -1]] /= 2
        integral = np.dot(density, self._loss.of_output(x)) * (x[1] - x[0])
        return float(integral / (sigma * np.sqrt(2 * np.pi) * self._remaining_mass))
