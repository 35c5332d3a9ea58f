"""ε by privacy loss distributions: never below the truth, above it by about `EPS_ERROR` at most.

The privacy loss of a step of the Poisson-subsampled Gaussian mechanism is put on a mesh by
connecting the dots (Doroshenko et al. 2022, arXiv 2207.04380): what lies between two points is
split over them so that its probability under both neighbours stays what it is. The distribution on
the mesh is that of a worse mechanism, and so is what is composed of it, by Fourier transform
(Koskela et al. 2020, arXiv 1906.03049). Both directions, a clip added and a clip removed, are
composed, and the larger ε counts.

What makes it cheap in every round: widths and lengths of meshes are powers of two, so that a
client's rounds share few of them and the transforms on it; and a sum of many losses is smooth, most
of its frequencies are nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr

History = tuple[tuple[float, float, int], ...]
"""(noise multiplier, sampling rate, steps) of mechanisms."""

EPS_ERROR = 1e-3
"""By how much ε may be above the truth; the width of the mesh follows from it."""
_TAIL = 1e-4
"""Part of δ that goes to losses beyond the mesh."""
_ORDERS = tuple(2**k + 1 for k in range(11))
_FURTHEST = 12.0
"""Standard deviations beyond which a normal output is counted as an infinite loss: 2e-33."""
_NOTHING = 1e-18
"""Magnitude of a frequency that is left out: below the rounding of the transform."""
_LARGEST_HALF = 2**21
_LARGEST_LOSS = 600.0
"""Its exponential is a double, and so is that of the point after."""
_SMALLEST_DELTA = 1e-10
"""Far above what rounding makes of a sum over the mesh."""


class _Mesh(NamedTuple):
    """The 2·`half` losses from -`half`·`width` to (`half` - 1)·`width`."""

    width: float
    half: int


class _Loss(NamedTuple):
    """The loss of a step on a mesh, for a clip removed and for one added.

    Attributes:
        spectra: Fourier transforms of the two distributions.
        infinite: probability of an infinite loss, the larger of the two.
    """

    spectra: tuple[NDArray[np.complex128], NDArray[np.complex128]]
    infinite: float


def prv_epsilon(history: History, delta: float) -> float:
    """Return a bound on ε of `history` at `delta`; inf where that is beyond a mesh.

    Args:
        history: what was done; a mechanism may be there but once.
        delta: δ.
    """
    mesh = _mesh_of(history, delta)
    if mesh is None:
        return math.inf
    steps = [(_loss_of(sigma, rate, mesh), count) for sigma, rate, count in sorted(history)]
    beyond = _TAIL * delta + sum(count * loss.infinite for loss, count in steps)
    if beyond >= delta:
        return math.inf
    composed = (
        _composed([(loss.spectra[way], count) for loss, count in steps], mesh) for way in (0, 1)
    )
    return max(_epsilon_at(delta - beyond, masses, mesh) for masses in composed)


def _mesh_of(history: History, delta: float) -> _Mesh | None:
    """Return a mesh on which `history` can be composed; None: none will do.

    Connecting the dots adds at most width²/4 to the variance V of a loss. Of a normal loss, whose ε
    is V/2 + z·√V, that adds (1/2 + z / 2√V) as much to ε; losses are not normal, so the width is
    for half of `EPS_ERROR`.

    The length is such that no more than `_TAIL`·δ lies beyond, by Chernoff's bound: log
    E[exp(t·loss)] of a step is t times the Rényi divergence of order t + 1, larger for a clip
    removed than for one added (Mironov, Talwar & Zhang 2019, arXiv 1908.10530, theorem 5). On the
    mesh it is larger by (t + 1)²·width²/8 at most, by Hoeffding's lemma.
    """
    if delta < _SMALLEST_DELTA:
        return None
    count = sum(steps for _, _, steps in history)
    moments = np.zeros(len(_ORDERS))
    for sigma, rate, steps in history:
        moments += steps * _moments_of(sigma, rate)
    variance, z = moments[0], -NormalDist().inv_cdf(delta)
    slope = 0.5 + 0.5 * max(z, 1.0) / math.sqrt(variance) if variance > 0 else math.inf
    width = 2.0 ** math.floor(math.log2(math.sqrt(2 * EPS_ERROR / (count * slope))))
    orders = np.array(_ORDERS)
    spread = count * orders**2 * width**2 / 8
    length = float(np.min((moments + spread - math.log(_TAIL * delta)) / (orders - 1)))
    if not length < _LARGEST_LOSS:  # as it is for nan
        return None
    half = 2 ** math.ceil(math.log2(max(length / width, 2.0)))
    return _Mesh(width, half) if half <= _LARGEST_HALF else None


@lru_cache(maxsize=4096)
def _moments_of(sigma: float, rate: float) -> NDArray[np.float64]:
    """Return log E[exp((order - 1)·loss)] of a step at whole orders; the first is near its V."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if rate == 1:
            return np.array([(order - 1) * order / (2 * sigma**2) for order in _ORDERS])
        values = []
        for order in _ORDERS:
            k = np.arange(order + 1.0)
            choose = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
            terms = choose + (order - k) * math.log1p(-rate) + k * math.log(rate)
            values.append(float(np.logaddexp.reduce(terms + k * (k - 1) / (2 * sigma**2))))
        return np.array(values)


@lru_cache(maxsize=256)
def _loss_of(sigma: float, rate: float, mesh: _Mesh) -> _Loss:
    """Return the loss of a step, log(1 - q + q·exp((2x - 1)/2σ²)) of its output x, on a mesh.

    x is normal of deviation σ, about 0 without the clip, about 1 in a share q of outputs with it.
    """
    low, high = (
        float(np.logaddexp(math.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + exponent))
        for exponent in (
            (2 * output - 1) / (2 * sigma**2)
            for output in (-_FURTHEST * sigma, 1 + _FURTHEST * sigma)
        )
    )
    first = max(math.floor(low / mesh.width), 1 - mesh.half)
    last = min(math.ceil(high / mesh.width), mesh.half - 1)
    losses = np.arange(first, last + 1, dtype=np.float64) * mesh.width
    without, with_clip = _probabilities(sigma, rate, losses)
    removed = _connect(with_clip, without, losses, mesh.width)
    added = _connect(without[::-1], with_clip[::-1], -losses[::-1], mesh.width)
    spectra = (_spectrum(removed, first, mesh), _spectrum(added, -last, mesh))
    return _Loss(spectra, max(float(with_clip[-1]), float(without[0])))


def _probabilities(
    sigma: float, rate: float, losses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability of a loss below, between and above `losses`, without and with a clip.

    Both [len(losses) + 1].
    """
    share = -np.expm1(math.log1p(-rate) - losses) if rate < 1 else np.ones_like(losses)
    with np.errstate(divide="ignore"):  # no output has a loss below log(1 - q)
        output = sigma**2 * (losses + np.log(np.maximum(share, 0)) - math.log(rate)) + 0.5
    without = _of_normal(output / sigma)
    return without, (1 - rate) * without + rate * _of_normal((output - 1) / sigma)


def _of_normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a standard normal below, between and above sorted `points`."""
    below, above = ndtr(points), ndtr(-points)
    between = np.where(points[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1])
    return np.concatenate((below[:1], between, above[-1:]))


def _connect(
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    losses: NDArray[np.float64],
    width: float,
) -> NDArray[np.float64]:
    """Return the probability of each of `losses` once the dots are connected.

    What is below the first is moved up to it; what is above the last is left out.

    Args:
        upper: probability below, between and above `losses` under one neighbour.
        lower: the same under the other; a loss is the logarithm of upper over lower.
        losses: multiples of `width`.
        width: between them.
    """
    between = upper[1:-1]
    right = (between - np.exp(losses[:-1]) * lower[1:-1]) / -math.expm1(-width)
    right = np.clip(right, 0, between)
    masses = np.zeros_like(losses)
    masses[0] = upper[0]
    masses[:-1] += between - right
    masses[1:] += right
    return masses


def _spectrum(masses: NDArray[np.float64], first: int, mesh: _Mesh) -> NDArray[np.complex128]:
    """Return the Fourier transform of masses at `first`·width and on, a loss of 0 being first."""
    around = np.zeros(2 * mesh.half)
    around[np.arange(first, first + len(masses)) % len(around)] = masses
    return np.fft.rfft(around)


def _composed(
    spectra: list[tuple[NDArray[np.complex128], int]], mesh: _Mesh
) -> NDArray[np.float64]:
    """Return the probability of each loss of the mesh from 0 on, of all steps together."""
    composed = np.ones(mesh.half + 1, dtype=np.complex128)
    for spectrum, count in spectra:
        heard = np.flatnonzero(np.abs(spectrum[: len(composed)]) >= _NOTHING ** (1 / count))
        kept = int(heard[-1]) + 1
        composed = composed[:kept] * spectrum[:kept] ** count
    return np.maximum(np.fft.irfft(composed, 2 * mesh.half)[: mesh.half], 0)


def _epsilon_at(delta: float, masses: NDArray[np.float64], mesh: _Mesh) -> float:
    """Return the ε, 0 at least, at which Σ_{t > ε} p(t)(1 − e^(ε−t)) is `delta`, p the `masses`."""
    points = min(mesh.half, int(_LARGEST_LOSS / mesh.width))
    losses = np.arange(points, dtype=np.float64) * mesh.width
    above = np.cumsum(masses[::-1])[::-1][:points]
    discounted = np.cumsum((masses[:points] * np.exp(-losses))[::-1])[::-1]
    at_losses = above[1:] - np.exp(losses[:-1]) * discounted[1:]
    enough = at_losses <= delta
    first = int(np.argmax(enough))
    if not enough[first]:
        return math.inf
    if first == 0:
        return 0.0
    return math.log((above[first] - delta) / discounted[first])
