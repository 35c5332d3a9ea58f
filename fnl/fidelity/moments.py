"""Mean and variance of scores whose rates carry Gaussian noise. Pure functions.

A rule turns rates into a score. Where it is linear, noise adds variance and no more. Where it takes
an absolute value noise also moves the mean, the more the smaller the clean value: clients come
closer together before any chance enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

_NODES, _REACH = 401, 8.0
"""Of quadratures over a normal variable; many, as absolute values have a kink."""


@dataclass(frozen=True)
class ScoreMoments:
    """A rule's scores of candidates by round, as they are and in noise.

    Attributes:
        clean: without noise, [R, d].
        mean: expected in noise, [R, d].
        variance: of a candidate's score over the noise, [R, d].
        shared: variance of what both have in common beside, such as a draw of the rule's own.
    """

    clean: Floats
    mean: Floats
    variance: Floats
    shared: float = 0.0

    def correlation(self) -> float:
        """Return the expected correlation of noisy and clean scores within rounds, in [-1, 1].

        Zero where clean scores do not differ, or noisy ones do not.
        """
        clean, mean = (centred(part) for part in (self.clean, self.mean))
        # what noise adds to the spread of d scores around their own mean
        free = 1 - 1 / self.clean.shape[1]
        noise, shared = float(self.variance.sum()) * free, self.shared * self.clean.size * free
        first, second = float((clean**2).sum()) + shared, float((mean**2).sum()) + shared + noise
        both = float((clean * mean).sum()) + shared
        return both / float(np.sqrt(first * second)) if first * second > 0 else 0.0

    def tau(self) -> float:
        """Return the expected Kendall's τ of noisy and clean scores, the mean over rounds.

        Exact for these candidates and Gaussian noise: of two of them, whose noisy scores differ by
        N(μ_a − μ_b, v_a + v_b), the expected sign is 2Φ((μ_a − μ_b)/√(v_a + v_b)) − 1. Unlike the
        correlation it does not care how heavy the tails of clean scores are. Without `shared`.
        """
        one, other = np.triu_indices(self.clean.shape[1], 1)
        clean = np.sign(self.clean[:, one] - self.clean[:, other])
        mean = self.mean[:, one] - self.mean[:, other]
        deviation = np.sqrt(self.variance[:, one] + self.variance[:, other])
        ratio = np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
        noisy = np.where(deviation > 0, 2 * ndtr(ratio) - 1, np.sign(mean))
        # τ-b: tied pairs of clean scores count in neither
        apart = np.maximum((clean != 0).sum(1) * clean.shape[1], 1)
        return float(((clean * noisy).sum(1) / np.sqrt(apart)).mean())


def folded_mean(mean: Floats, deviation: Floats) -> Floats:
    """Return E|X| of normal X: σ√(2/π) e^(−μ²/2σ²) + μ(1 − 2Φ(−μ/σ)) (Leone et al. 1961)."""
    ratio = np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
    spread = deviation * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
    return np.where(deviation > 0, spread + mean * (1 - 2 * ndtr(-ratio)), np.abs(mean))


def folded_covariance(mean: Floats, covariance: Floats) -> Floats:
    """Return Cov(|X_a|, |X_b|) of jointly normal X: [..., C, C].

    E|X_a||X_b| is E over X_a of |X_a| times the folded mean of X_b given it, by quadrature; the
    diagonal is μ² + σ² − (E|X|)².

    Args:
        mean: [..., C].
        covariance: [..., C, C].
    """
    deviation = np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0.0))
    folded = folded_mean(mean, deviation)
    nodes, weights = normal_nodes(_NODES, _REACH)
    first, own = mean[..., :, None, None], deviation[..., :, None, None]
    variance = own[..., 0] ** 2
    slope = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
    left = np.maximum(deviation[..., None, :] ** 2 - slope**2 * variance, 0.0)
    x = own * nodes
    given = folded_mean(
        mean[..., None, :, None] + slope[..., None] * x, np.sqrt(left)[..., None] + np.zeros_like(x)
    )
    product = (weights * np.abs(first + x) * given).sum(-1)
    result = product - folded[..., :, None] * folded[..., None, :]
    classes = np.arange(mean.shape[-1])
    result[..., classes, classes] = mean**2 + deviation**2 - folded**2
    return result


def through(
    score: Callable[[Floats], Floats], mean: Floats, deviation: Floats
) -> tuple[Floats, Floats]:
    """Return mean and variance of `score` of normal variables [...], by quadrature."""
    nodes, weights = normal_nodes(_NODES, _REACH)
    values = score(mean[..., None] + deviation[..., None] * nodes)
    expected = (weights * values).sum(-1)
    return expected, np.maximum((weights * values**2).sum(-1) - expected**2, 0.0)


def distance_moments(length: Floats, deviation: Floats, dimensions: int) -> tuple[Floats, Floats]:
    """Return mean and variance of ‖Δ + N(0, τ²I)‖ in P dimensions, by the delta method.

    ‖·‖² has mean L² + Pτ² and variance 4L²τ² + 2Pτ⁴; P is in the thousands, so that its root is
    as good as normal.

    Args:
        length: L = ‖Δ‖.
        deviation: τ.
        dimensions: P.
    """
    square = length**2 + dimensions * deviation**2
    variance = 4 * length**2 * deviation**2 + 2 * dimensions * deviation**4
    safe = np.where(square > 0, square, 1.0)
    return np.sqrt(square) - variance / (8 * safe**1.5), variance / (4 * safe)


def centred(scores: Floats) -> Floats:
    """Return scores [R, d] less the mean of their round."""
    return scores - scores.mean(axis=1, keepdims=True)


def normal_nodes(count: int, reach: float) -> tuple[Floats, Floats]:
    """Return nodes in [-reach, reach] and weights of a mean over a standard normal variable."""
    nodes = np.linspace(-reach, reach, count)
    density = np.exp(-(nodes**2) / 2)
    return nodes, density / density.sum()
