"""The laws of built-in selection rules: what noise of rates does to its scores.

Noise comes from two places. DP-SGD's, N(0, τ²) in every trained weight, reaches a rate to first
order as ∇r·N(0, τ²I); one draw moves the rates of all classes together, so their covariance is τ²
times the Gram matrix of their gradients. The release of rates adds its own to every number.

Clipping, which is no noise, moves every client's rates by an amount of its own; noise also moves
their mean, to second order in τ. Both are not derived here but given: a pilot measures them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fnl.fidelity.law import correlation_of_tau, flip_rate, jaccard, selection_gain
from fnl.fidelity.moments import (
    Floats,
    ScoreMoments,
    distance_moments,
    folded_covariance,
    folded_mean,
    through,
)

_LEAST_RATE = 1e-6
_GUMBEL = np.pi**2 / 6


@dataclass(frozen=True)
class NoisyRates:
    """What R rounds of d candidates would report without noise, and how noisy it is.

    Attributes:
        before: network rate of the global model, [R, d].
        after: network rate after training, [R, d].
        classes_before: the same by class, 0 for a class without clips, [R, d, C].
        classes_after: the same after training, [R, d, C].
        update_norm: of the update, [R, d].
        clipped_after: network rate after training with clipping, without noise, [R, d].
        clipped_classes: the same by class, [R, d, C].
        clipped_norm: of that update, [R, d].
        weight_noise: τ, deviation of DP's noise in each trained weight after a round, [R, d].
        class_gram: ∇r_c·∇r_c' of the class rates, [R, d, C, C].
        rate_gradient: ‖∇r‖ of the network rate, [R, d].
        release: deviation of the release's noise on a class rate, 0 where there is none, [R, d].
        release_network: the same on the network rate, [R, d].
        parameters: P, trained weights.
        shift: mean shift of the network rate that noise causes beyond clipping.
        class_shift: the same by class, [C].
    """

    before: Floats
    after: Floats
    classes_before: Floats
    classes_after: Floats
    update_norm: Floats
    clipped_after: Floats
    clipped_classes: Floats
    clipped_norm: Floats
    weight_noise: Floats
    class_gram: Floats
    rate_gradient: Floats
    release: Floats
    release_network: Floats
    parameters: int
    shift: float
    class_shift: Floats

    def scaled(
        self, *, noise: float = 1.0, release: float = 1.0, progress: float = 1.0
    ) -> NoisyRates:
        """Return the same rounds under other noise, or with another number of steps.

        Args:
            noise: factor of τ; mean shifts grow with its square.
            release: factor of the release's noise.
            progress: factor of what training changes.
        """

        def moved(before: Floats, after: Floats) -> Floats:
            return before + progress * (after - before)

        return replace(
            self,
            after=moved(self.before, self.after),
            classes_after=moved(self.classes_before, self.classes_after),
            update_norm=progress * self.update_norm,
            clipped_after=moved(self.before, self.clipped_after),
            clipped_classes=moved(self.classes_before, self.clipped_classes),
            clipped_norm=progress * self.clipped_norm,
            weight_noise=noise * self.weight_noise,
            release=release * self.release,
            release_network=release * self.release_network,
            shift=noise**2 * self.shift,
            class_shift=noise**2 * self.class_shift,
        )

    @property
    def expected_after(self) -> Floats:
        """Expected network rate in noise, [R, d]."""
        return self.clipped_after + self.shift

    @property
    def expected_change(self) -> Floats:
        """Expected change of the network rate in noise, [R, d]."""
        return self.expected_after - self.before

    @property
    def expected_changes(self) -> Floats:
        """The same by class, [R, d, C]."""
        return self.clipped_classes + self.class_shift - self.classes_before

    @property
    def rate_deviation(self) -> Floats:
        """Deviation of a network rate after training, [R, d]."""
        return np.hypot(self.weight_noise * self.rate_gradient, self.release_network)

    @property
    def difference_deviation(self) -> Floats:
        """Deviation of a change of the network rate: both rates are released, [R, d]."""
        return np.hypot(self.rate_deviation, self.release_network)

    @property
    def class_covariance(self) -> Floats:
        """Covariance of the changes of the class rates, [R, d, C, C]."""
        released = 2 * self.release[..., None, None] ** 2 * np.eye(self.class_gram.shape[-1])
        return self.weight_noise[..., None, None] ** 2 * self.class_gram + released


@dataclass(frozen=True)
class Target:
    """The band of the rule `target-rate`.

    Attributes:
        rate: its middle.
        band: distance from it that counts as none.
    """

    rate: float = 0.1
    band: float = 0.0

    def score(self, rates: Floats) -> Floats:
        """Return minus the distance of rates from the band."""
        return -np.maximum(0.0, np.abs(rates - self.rate) - self.band)


@dataclass(frozen=True)
class Fidelity:
    """How a rule's ranking in noise agrees with its ranking without.

    Attributes:
        correlation: ρ of the scores.
        tau: Kendall's.
        flips: share of the selection that changes.
        jaccard: of the two selections.
        gain: how much better the selected are by their clean score than candidates at random, in
            standard deviations of that score.
    """

    correlation: float
    tau: float
    flips: float
    jaccard: float
    gain: float

    @classmethod
    def of(cls, tau: float, candidates: int, selected: int) -> Fidelity:
        """Return what a Kendall's τ of Gaussian scores means for m selected of d candidates."""
        correlation = correlation_of_tau(tau)
        flips = flip_rate(correlation, candidates, selected)
        gain = correlation * selection_gain(candidates, selected)
        return cls(correlation, tau, flips, jaccard(flips), gain)


def _rate(rates: NoisyRates, _target: Target) -> ScoreMoments:
    return ScoreMoments(rates.after, rates.expected_after, rates.rate_deviation**2)


def _lowest_rate(rates: NoisyRates, _target: Target) -> ScoreMoments:
    return ScoreMoments(-rates.after, -rates.expected_after, rates.rate_deviation**2)


def _rate_before(rates: NoisyRates, _target: Target) -> ScoreMoments:
    return ScoreMoments(rates.before, rates.before, rates.release_network**2)


def _target_rate(rates: NoisyRates, target: Target) -> ScoreMoments:
    noisy = through(target.score, rates.expected_after, rates.rate_deviation)
    return ScoreMoments(target.score(rates.after), *noisy)


def _proportional(rates: NoisyRates, _target: Target) -> ScoreMoments:
    """Return moments of log r + G: the largest are those drawn, G the rule's own Gumbel draw."""

    def score(rate: Floats) -> Floats:
        return np.log(np.maximum(rate, _LEAST_RATE))

    noisy = through(score, rates.expected_after, rates.rate_deviation)
    return ScoreMoments(score(rates.after), *noisy, shared=_GUMBEL)


def _difference(rates: NoisyRates, _target: Target) -> ScoreMoments:
    change = rates.classes_after - rates.classes_before
    mean, covariance = rates.expected_changes, rates.class_covariance
    deviation = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    return ScoreMoments(
        np.abs(change).sum(-1),
        folded_mean(mean, deviation).sum(-1),
        np.maximum(folded_covariance(mean, covariance).sum((-2, -1)), 0.0),
    )


def _signed_difference(rates: NoisyRates, _target: Target) -> ScoreMoments:
    change = (rates.classes_after - rates.classes_before).sum(-1)
    variance = rates.class_covariance.sum((-2, -1))
    return ScoreMoments(change, rates.expected_changes.sum(-1), variance)


def _scalar(rates: NoisyRates, _target: Target) -> ScoreMoments:
    change = rates.after - rates.before
    noisy = through(np.abs, rates.expected_change, rates.difference_deviation)
    return ScoreMoments(np.abs(change), *noisy)


def _signed_scalar(rates: NoisyRates, _target: Target) -> ScoreMoments:
    change = rates.after - rates.before
    return ScoreMoments(change, rates.expected_change, rates.difference_deviation**2)


def _update_norm(rates: NoisyRates, _target: Target) -> ScoreMoments:
    noisy = distance_moments(rates.clipped_norm, rates.weight_noise, rates.parameters)
    return ScoreMoments(rates.update_norm, *noisy)


LAWS: dict[str, Callable[[NoisyRates, Target], ScoreMoments]] = {
    "rate-difference": _difference,
    "rate-difference-debiased": _difference,
    "rate-difference-signed": _signed_difference,
    "rate-difference-scalar": _scalar,
    "rate-difference-scalar-signed": _signed_scalar,
    "highest-rate": _rate,
    "lowest-rate": _lowest_rate,
    "target-rate": _target_rate,
    "rate-proportional": _proportional,
    "highest-rate-global": _rate_before,
    "update-norm": _update_norm,
}
"""Rules whose scores the law knows."""

UNRANKED = ("random", "round-robin")
"""Rules that rank by no score of a client's: chance and turns."""
