"""ε by privacy loss distributions: the analysis of Opacus' PRV accountant at a round's price.

The analysis is that of Gopi, Lee & Wutschitz 2021 (arXiv 2106.02848) with Opacus' classes: the
privacy loss of a step is truncated to [-L, L], put on a mesh that keeps its mean, and composed
modulo 2L by Fourier transform. The mesh is as fine and L as large as their theorem asks for, so the
errors of `PRVAccountant` hold, `EPS_ERROR` and `DELTA_ERROR`. What makes it cheap:

- A mesh that is safe for a whole run is safe for every part of it. Given the plan, all rounds share
  one mesh and the transforms on it.
- A sum of many losses is smooth: most of its frequencies are nothing. δ(ε), a sum over the mesh, is
  taken over the other frequencies (Parseval) without a transform back.
- L needs some bound on ε, not the best: Rényi DP at a few whole orders, and the tail of one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from opacus.accountants.analysis.prv import DiscretePRV, Domain, discretize
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from scipy.fft import next_fast_len
from scipy.optimize import root_scalar
from scipy.special import ndtri

from fnl.privacy.privacy_loss import SubsampledGaussianLoss, TruncatedLoss

History = tuple[tuple[float, float, int], ...]
"""(noise multiplier, sampling rate, steps) of mechanisms."""

EPS_ERROR = 0.01
"""Error of the estimate of ε, which the bound adds to it; Opacus' default."""
DELTA_ERROR = 1e-3
"""Error in δ, as a part of it, which the bound takes off it; Opacus' default."""
_TAIL_ORDERS = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
"""A whole order costs little to analyse, and one √2 off the best makes a bound 6 % larger."""
_NOTHING = 1e-8
"""Magnitude of a frequency, as a part of δ, that counts as nothing.

A frequency f moves δ by its magnitude over f at most, all of those together by 1e-7 of δ: what the
theorem allows is ten thousand times that.
"""
_ROUNDING = 1e-14
"""Magnitude of the frequencies that rounding has."""
_LARGEST_HALF = 2**22
_LARGEST_LOSS = 700.0
"""Its exponential is a double."""
_SMALLEST_DELTA = 1e-12


def prv_epsilon(
    history: History, delta: float, planned: History = (), eps_error: float = EPS_ERROR
) -> float:
    """Return a bound on ε of `history` at `delta`; inf where that is beyond a mesh.

    Args:
        history: what was done; a mechanism may be there but once.
        delta: δ.
        planned: what will have been done in the end, where that is known. It decides on the mesh,
            so it changes the bound by less than its error.
        eps_error: error for which the mesh is made. With more than `EPS_ERROR` the value is an
            estimate of the bound, and cheaper.
    """
    whole = _at_most(history, planned)
    mesh = _mesh_of(whole, delta, eps_error) or _mesh_of(_at_most(history, ()), delta, eps_error)
    if mesh is None:
        return math.inf
    transform = _kept_spectrum if eps_error == EPS_ERROR else _spectrum
    shift, composed = 0.0, np.ones(mesh.half + 1, dtype=np.complex128)
    for sigma, rate, steps in sorted(history):
        of_step = transform(sigma, rate, mesh)
        kept = min(_audible(of_step.values, mesh.nothing ** (1 / steps)), len(composed))
        composed = composed[:kept] * of_step.values[:kept] ** steps
        shift += steps * of_step.shift
    error, few = delta * DELTA_ERROR, len(composed) < mesh.half // 8
    estimate = _over_frequencies if few else _over_points
    return estimate(composed, mesh, shift, delta - error) + EPS_ERROR


def _at_most(history: History, planned: History) -> History:
    """Return every mechanism with its steps in the one or the other, whichever are more."""
    steps: dict[tuple[float, float], int] = {}
    for sigma, rate, count in (*history, *planned):
        steps[sigma, rate] = max(count, steps.get((sigma, rate), 0))
    return tuple(sorted((sigma, rate, count) for (sigma, rate), count in steps.items()))


@dataclass(frozen=True)
class _Mesh:
    """The 2·`half` points from (1 - `half`)·`width` to `half`·`width`: one of them is 0.

    `nothing` is the magnitude of a frequency that may be left out.
    """

    width: float
    half: int
    nothing: float

    @property
    def least(self) -> float:
        return (1 - self.half) * self.width

    def domain(self) -> Domain:
        return Domain(self.least, self.half * self.width, 2 * self.half)


@lru_cache(maxsize=4096)
def _mesh_of(history: History, delta: float, eps_error: float) -> _Mesh | None:
    """Return a mesh on which `history`, or any part of it, can be composed; None: none will do.

    As in Opacus' `PRVAccountant._get_domain`, with L rounded up, to a length that is fast to
    transform (Gopi et al., Remark 5.6).
    """
    steps, error = sum(count for _, _, count in history), delta * DELTA_ERROR
    if delta < _SMALLEST_DELTA:
        return None
    width = eps_error / math.sqrt(steps * math.log(12 / error) / 2)
    of_one = max(_bound_of_one(sigma, rate, error / (8 * steps)) for sigma, rate, _ in history)
    furthest = max(_bound_of_all(history, error / 4), of_one, eps_error) + 3
    if not (furthest < _LARGEST_LOSS and furthest / width < _LARGEST_HALF):  # as it is for nan
        return None
    half = next_fast_len(math.ceil(math.ceil(furthest) / width) + 1)
    nothing = max(_NOTHING * delta, _ROUNDING)
    return _Mesh(width, half, nothing)  # pyright: ignore[reportArgumentType]  # SciPy's says None


def _bound_of_one(sigma: float, rate: float, delta: float) -> float:
    """Return a bound on ε of one step: its loss is larger with a probability below `delta`."""
    return float(SubsampledGaussianLoss(rate, sigma).of_output(1 - sigma * ndtri(delta)))


def _bound_of_all(history: History, delta: float) -> float:
    """Return a bound on ε of `history`."""
    rdp = np.zeros(len(_TAIL_ORDERS))
    for sigma, rate, steps in history:
        rdp += compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=_TAIL_ORDERS)
    return float(get_privacy_spent(orders=_TAIL_ORDERS, rdp=rdp.tolist(), delta=delta)[0])


@dataclass(frozen=True)
class _Spectrum:
    """The loss of one step on a mesh: its Fourier transform about 0, lowest frequency first.

    `shift` is by how much the points have to move for the mean to be kept.
    """

    values: NDArray[np.complex128]
    shift: float


def _spectrum(sigma: float, rate: float, mesh: _Mesh) -> _Spectrum:
    """Return the spectrum of a step."""
    domain = mesh.domain()
    loss = SubsampledGaussianLoss(rate, sigma)
    discrete = discretize(TruncatedLoss(loss, domain.t_min, domain.t_max), domain)
    values = np.fft.rfft(discrete.pmf)
    kept = _audible(values, mesh.nothing)
    about_zero = np.exp(_angles(mesh, kept) * (mesh.half - 1))
    return _Spectrum(values[:kept] * about_zero, float(discrete.domain.shifts))


_kept_spectrum = lru_cache(maxsize=128)(_spectrum)


def _audible(values: NDArray[np.complex128], least: float) -> int:
    """Return how many frequencies there are up to the last of magnitude `least`."""
    return int(np.flatnonzero(np.abs(values) >= least)[-1]) + 1


def _angles(mesh: _Mesh, count: int) -> NDArray[np.complex128]:
    """Return iω by which a frequency turns from one point to the next."""
    return np.arange(count, dtype=np.complex128) * (1j * np.pi / mesh.half)


def _over_points(
    composed: NDArray[np.complex128], mesh: _Mesh, shift: float, delta: float
) -> float:
    """Return ε at `delta` by Opacus' sum over the points, which needs the loss at all of them."""
    domain = mesh.domain()
    about_least = composed * np.exp(-_angles(mesh, len(composed)) * (mesh.half - 1))
    spectrum = np.pad(about_least, (0, mesh.half + 1 - len(composed)))
    loss = DiscretePRV(np.fft.irfft(spectrum, domain.size), domain.shift_right(shift))
    return float(loss.compute_epsilon(delta, 0.0, 0.0)[1])


def _over_frequencies(
    composed: NDArray[np.complex128], mesh: _Mesh, shift: float, delta: float
) -> float:
    """Return ε at which the loss t of spectrum `composed` has δ(ε) = Σ_{t > ε} p(t)(1 − e^(ε−t)).

    p is a sum of waves, one a frequency, and over the points above ε a wave is geometric series.
    `composed` ends before the highest frequency, which would have no negative.
    """
    turn = _angles(mesh, len(composed))
    weights = np.full(len(composed), 1 / mesh.half)  # a frequency and its negative
    weights[0] /= 2
    weighted = composed * weights
    points, least = 2 * mesh.half, mesh.least + shift
    fall = np.expm1(turn - mesh.width)
    step, end = np.expm1(turn), np.exp(turn * (mesh.half + 1))
    step[0] = 1.0  # its series is a count of points

    def delta_at(epsilon: float) -> float:
        first = max(math.ceil((epsilon - least) / mesh.width), 0)
        start = np.exp(turn * (first - mesh.half + 1))
        mass = (end - start) / step
        mass[0] = points - first
        below = math.exp(epsilon - least - first * mesh.width)
        rest = math.exp((first - points) * mesh.width)
        discounted = below * (end * rest - start) / fall
        return float(np.dot(weighted, mass - discounted).real)

    highest = least + (points - 1) * mesh.width
    found = root_scalar(
        lambda epsilon: delta_at(epsilon) - delta, bracket=(least, highest), xtol=1e-12
    )
    return float(found.root)
