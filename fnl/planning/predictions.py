"""Fidelity of every rule, by its law or by the pilot, and what it takes to reach a wanted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fnl.config import Config
from fnl.errors import ConfigError
from fnl.fidelity.moments import Floats, ScoreMoments, centred
from fnl.fidelity.rules import LAWS, Fidelity, NoisyRates, Target
from fnl.metrics.ranking import flip_rate, kendall_tau
from fnl.metrics.sensitivity import weight_noise
from fnl.privacy.budget import Budget, Workload, delta_of
from fnl.training.plan import plan_of

TRUSTED = 2.0
"""Largest factor between the law's variance of noise and the pilot's at which the law is used."""

OWN_DRAW = ("rate-proportional",)
"""Rules whose scores are draws, the same in both rankings."""

EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Clips of a client that are tried, times those that there are."""
STEPS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Scored:
    """A rule's scores in the pilot, of its candidates by round: [R, d] each."""

    private: Floats
    shadow: Floats
    clipped: Floats
    floor: Floats


@dataclass(frozen=True)
class Prediction:
    """What is expected of a rule.

    Attributes:
        rule: its name.
        fidelity: of the noisy ranking to the shadow's.
        by: "law", "pilot", or "exact" where nothing of privacy reaches the scores.
        signal: standard deviation of clean scores between the pilot's clients.
        noise: standard deviation of what noise adds to them there.
        tau_pilot: mean Kendall's τ over the pilot's rounds; None where it is undefined.
        tau_floor: the same of the floor: of two draws of mini-batches without privacy.
        flips_pilot: mean share of the pilot's selections that noise changed.
    """

    rule: str
    fidelity: Fidelity
    by: str
    signal: float
    noise: float
    tau_pilot: float | None
    tau_floor: float | None
    flips_pilot: float


@dataclass(frozen=True)
class Change:
    """How a run differs from the pilot: factors of τ, of the release's noise, of progress."""

    noise: float = 1.0
    release: float = 1.0
    progress: float = 1.0


Model = Callable[[Change], float]
"""Kendall's τ of noisy and clean scores under a change."""


def predict(
    rule: str, scored: Scored, rates: NoisyRates | None, config: Config
) -> tuple[Prediction, Model]:
    """Return what is expected of `rule`, and how that changes with noise and signal."""
    settings = config.coordination
    moments = _law(rule, rates, config)
    by, model = "pilot", _scaled_pilot(scored)
    if np.array_equal(scored.private, scored.shadow):
        by, model = "exact", _exact
    elif moments is not None and rates is not None and _trusted(moments, scored):
        by, model = "law", _scaled_law(rule, rates, config)
    fidelity = Fidelity.of(model(Change()), settings.candidates, settings.selected)
    pairs = list(zip(scored.private, scored.shadow, strict=True))
    prediction = Prediction(
        rule=rule,
        fidelity=fidelity,
        by=by,
        signal=_spread(scored.shadow),
        noise=float(np.sqrt(in_noise(scored).variance.mean())),
        tau_pilot=_mean([kendall_tau(a, b) for a, b in pairs]),
        tau_floor=_mean(
            [kendall_tau(a, b) for a, b in zip(scored.floor, scored.shadow, strict=True)]
        ),
        flips_pilot=float(np.mean([flip_rate(b, a, settings.selected) for a, b in pairs])),
    )
    return prediction, model


def least(
    model: Model, tau: float, changes: Sequence[tuple[float, Change]], *, whole: bool = False
) -> float | None:
    """Return the first of `changes` (a value, what it does) that reaches `tau`; None if none does.

    Between two values it is interpolated in their logarithms, unless `whole` asks for a value.
    """
    before = None
    for value, change in changes:
        found = model(change)
        if found >= tau:
            if before is None or whole:
                return value
            low, less = before
            share = (tau - less) / (found - less) if found > less else 1.0
            return float(np.exp(np.log(low) + share * (np.log(value) - np.log(low))))
        before = value, found
    return None


def by_epsilon(config: Config, clips: int, rounds: int) -> list[tuple[float, Change]]:
    """Return budgets, and what each changes for a client of `clips` clips asked in `rounds`."""
    return _changes(config, clips, rounds, ("privacy", "epsilon"), EPSILONS)


def by_steps(config: Config, clips: int, rounds: int) -> list[tuple[float, Change]]:
    """Return steps a round, and what each changes."""
    return _changes(config, clips, rounds, ("training", "steps"), STEPS)


def by_clips(config: Config, clips: int, rounds: int) -> list[tuple[float, Change]]:
    """Return clips a client, and what each changes; clients differ as much as they do."""
    base = _noise_at(config, clips, rounds)
    counts = sorted({max(2, round(clips * factor)) for factor in FACTORS})
    return [(n, _against(_noise_at(config, n, rounds), base)) for n in counts]


def _changes(
    config: Config, clips: int, rounds: int, key: tuple[str, str], values: Sequence[float]
) -> list[tuple[float, Change]]:
    base, (group, name) = _noise_at(config, clips, rounds), key
    changes: list[tuple[float, Change]] = []
    for value in values:
        settings = getattr(config, group).model_copy(update={name: value})
        other = config.model_copy(update={group: settings})
        try:
            changes.append((value, _against(_noise_at(other, clips, rounds), base)))
        except ConfigError:  # no noise keeps so small a budget
            continue
    return changes


@dataclass(frozen=True)
class _At:
    weights: float
    release: float
    steps: int


def _noise_at(config: Config, clips: int, rounds: int) -> _At:
    """Return τ/η‖∇r‖ and the release's noise of a client."""
    plan = plan_of(config, clips, 1)
    work = Workload(plan.sample_rate, plan.steps, rounds, delta_of(config.privacy.delta, clips))
    budget = Budget(config.privacy.epsilon, config.rate_epsilon, config.privacy.accountant)
    rates = budget.rate_noise(work)
    sigma = config.privacy.noise_multiplier or budget.gradient_noise(work, rates)
    tau = weight_noise(
        noise_multiplier=sigma,
        clip_norm=config.privacy.clip_norm,
        expected_batch=plan.sample_rate * clips,
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        momentum=plan.options.momentum,
    )
    return _At(tau, (rates or 0.0) / clips, plan.steps)


def _against(other: _At, base: _At) -> Change:
    release = other.release / base.release if base.release else 1.0
    return Change(other.weights / base.weights, release, other.steps / base.steps)


def _trusted(moments: ScoreMoments, scored: Scored) -> bool:
    """Whether noise spreads the pilot's scores as much as the law says."""
    law = float(moments.variance.mean())
    found = _spread(scored.private - moments.mean) ** 2
    return law > 0 and 1 / TRUSTED <= found / law <= TRUSTED


def _law(rule: str, rates: NoisyRates | None, config: Config) -> ScoreMoments | None:
    if rates is None or rule not in LAWS or rule in OWN_DRAW:
        return None
    settings = config.coordination
    return LAWS[rule](rates, Target(settings.target_rate, settings.rate_band))


def _scaled_law(rule: str, rates: NoisyRates, config: Config) -> Model:
    def tau(change: Change) -> float:
        scaled = rates.scaled(noise=change.noise, release=change.release, progress=change.progress)
        moments = _law(rule, scaled, config)
        return moments.tau() if moments is not None else 0.0

    return tau


def in_noise(scored: Scored, factor: float = 1.0) -> ScoreMoments:
    """Return what the pilot's own noise, `factor` times as much of it, makes of scores.

    A noisy score is a share g of the clipped one plus noise, both fitted within rounds. Noise takes
    signal away where steps are not linear: of Adam's steps, which have one length, the more of it
    is noise the less is gradient. Without noise g is 1; for other noise it is 1/(1 + k f²).
    """
    noisy, clipped = centred(scored.private), centred(scored.clipped)
    spread = float((clipped**2).sum())
    share = float(np.clip((noisy * clipped).sum() / spread, 1e-3, 1.0)) if spread else 1.0
    variance = _spread(scored.private - share * scored.clipped) ** 2
    left = 1 / (1 + (1 / share - 1) * factor**2)
    return ScoreMoments(
        scored.shadow, left * scored.clipped, np.full_like(scored.shadow, variance * factor**2)
    )


def _scaled_pilot(scored: Scored) -> Model:
    """Return τ by the pilot's own noise, scaled: no law says how else."""
    return lambda change: in_noise(scored, change.noise / change.progress).tau()


def _exact(_change: Change) -> float:
    return 1.0


def _spread(scores: Floats) -> float:
    """Return the standard deviation within rounds."""
    return float(np.sqrt((centred(scores) ** 2).sum() / (scores.size - len(scores))))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
