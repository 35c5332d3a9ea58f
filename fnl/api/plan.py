"""What a run's rankings will be worth, before anything private is touched: `fnl.plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fnl.api.pieces import configuration
from fnl.config import Config
from fnl.errors import ConfigError
from fnl.schedule import planned_of

if TYPE_CHECKING:
    from fnl.planning.pilot import Pilot
    from fnl.planning.predictions import Model, Prediction

PILOT_ROUNDS = 10
"""Of a pilot, unless it is told otherwise or the run has fewer."""
MOST_AGAIN = 4.0
"""Work, in pilots, up to which an answer to what a τ takes is tried by another pilot."""


@dataclass(frozen=True)
class Wanted:
    """What a rule takes to reach a wanted τ, all else as configured; None: nothing tried does.

    Attributes:
        epsilon: least ε of the run.
        clips: least clips a client.
        steps: least steps a round.
        found: τ expected by a pilot that was played at an answer, by the names above. It is there
            for the configured rule, where the pilot takes at most `MOST_AGAIN` times the work.
    """

    epsilon: float | None
    clips: float | None
    steps: float | None
    found: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is expected of a run. It rests on public numbers and synthetic clips alone.

    Attributes:
        config: of the run.
        predictions: of every built-in selection rule that ranks clients.
        clips: smallest, median and largest n_k.
        sigma: smallest, median and largest σ of the clients that are asked; empty without privacy.
        rate_noise: the same of the noise on each released rate; empty where none is released.
        rate_gradient: ‖∇r‖, a value for `coordination.rate-gradient`; None where there is no law.
        accuracy: of the pilot on synthetic clips, before its first round and after each.
        seconds: of the run's rounds with one worker that has a core of this machine to itself, or
            its GPU, evaluation included.
        evaluation_seconds: of them, what no second worker takes part in.
        device: where they were timed.
        bytes: sent in the run, to clients and back.
        wanted: by rule, what a wanted τ takes; empty if none is wanted.
        curve: by rule, τ at several ε; empty unless asked for.
    """

    config: Config
    predictions: tuple[Prediction, ...]
    clips: tuple[int, int, int]
    sigma: tuple[float, ...]
    rate_noise: tuple[float, ...]
    rate_gradient: float | None
    accuracy: tuple[float, ...]
    seconds: float
    evaluation_seconds: float
    device: str
    bytes: int
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    curve: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return τ and gain of every rule, a line each."""
        lines = [
            f"{one.rule}: tau {one.fidelity.tau:.2f}, gain {one.fidelity.gain:.2f}, by {one.by}"
            for one in sorted(self.predictions, key=lambda one: -one.fidelity.tau)
        ]
        return "\n".join([f"plan of {self.config}", *lines])

    def seconds_with(self, workers: int) -> float:
        """Return the seconds of the rounds with so many workers, each on a core to itself."""
        return self.evaluation_seconds + (self.seconds - self.evaluation_seconds) / workers

    def uncovered(self, rule: str) -> list[str]:
        """Return what a rule reads that no ledger of the run would have."""
        from fnl.config.rules import SELECTIONS, uncovered

        return uncovered(SELECTIONS[rule], released=self.config.rate_epsilon > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON knows."""
        settings = self.config.coordination
        return {
            "rounds": self.config.run.rounds,
            "candidates": settings.candidates,
            "selected": settings.selected,
            "clips": list(self.clips),
            "sigma": list(self.sigma),
            "rate_noise": list(self.rate_noise),
            "rate_gradient": self.rate_gradient,
            "accuracy_pilot": list(self.accuracy),
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "device": self.device,
            "bytes": self.bytes,
            "rules": [
                asdict(one) | {"uncovered": self.uncovered(one.rule)} for one in self.predictions
            ],
            "wanted": {rule: asdict(one) for rule, one in self.wanted.items()},
            "tau_by_epsilon": {
                rule: [list(p) for p in points] for rule, points in self.curve.items()
            },
        }


def plan(
    base: Config | Mapping[str, Any] | None = None,
    /,
    *,
    clips: Sequence[int] | int = (),
    rounds: int = 0,
    want_tau: float | None = None,
    curve: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **groups: Mapping[str, Any],
) -> Plan:
    """Return what to expect of a run, from public facts and a pilot on synthetic clips.

    No clip of the run's own corpus is read, nor its index: how many clips a client has is told.

    Args:
        base: as in `fnl.configuration`.
        clips: n_k, one for all clients or one each; empty: of the synthetic corpus' partitioning.
        rounds: of the pilot; 0: ten, or those of the run if they are fewer.
        want_tau: also find the least ε, clips and steps at which each rule reaches this τ.
        curve: also give τ at several ε.
        progress: is told how many clients have trained, of how many.
        groups: keys by group, as in `fnl.configuration`.

    Raises:
        fnl.FnlError: one line on what cannot be planned.

    Examples:
        >>> import fnl
        >>> plan = fnl.plan(
        ...     data={"speakers": 20, "clips_per_word": 2, "clients": 4}, model={"hidden": [16]},
        ...     training={"optimizer": "sgd", "batch_size": 0, "steps": 1}, run={"rounds": 2},
        ...     coordination={"candidates": 4, "selected": 2},
        ... )
        >>> {one.rule: one.by for one in plan.predictions}["loss"]
        'exact'
    """
    if want_tau is not None and not 0 < want_tau < 1:
        raise ConfigError(f"--want tau={want_tau}: a Kendall's tau between 0 and 1")
    config = configuration(base, **groups)
    planned_of(config, config.run.rounds)  # who is asked when must be known beforehand
    counts = (clips,) if isinstance(clips, int) else tuple(clips)
    if want_tau is not None and config.privacy.noise_multiplier > 0:
        raise ConfigError(
            "--want needs noise that follows from the budget: set privacy.noise-multiplier = 0"
        )
    from fnl.api.pilot import piloted

    length = min(config.run.rounds, rounds or PILOT_ROUNDS)
    play = partial(piloted, length=length, progress=progress)
    pilot, predicted = play(config, counts)
    models = {rule: model for rule, (_, model) in predicted.items()}
    predictions = [one for one, _ in predicted.values()]
    told = _told(config, pilot, predictions, models, want_tau=want_tau, curve=curve)
    rule = config.coordination.selection
    if rule not in told.wanted:
        return told
    tried = _tried(told.wanted[rule], pilot, config, counts, play)
    return replace(told, wanted={**told.wanted, rule: tried})


def _tried(
    wanted: Wanted,
    pilot: Pilot,
    config: Config,
    counts: Sequence[int],
    play: Callable[..., tuple[Pilot, dict[str, tuple[Prediction, Model]]]],
) -> Wanted:
    """Return `wanted` of the configured rule with what pilots at its answers expect."""
    from fnl.training.plan import plan_of

    rule, typical = config.coordination.selection, int(np.median(pilot.clips))
    answers = {"epsilon": wanted.epsilon, "clips": wanted.clips, "steps": wanted.steps}
    found: dict[str, float] = {}
    for what, answer in answers.items():
        if answer is None:
            continue
        other, clips, work = config, counts, 1.0
        if what == "epsilon":
            other = configuration(config, privacy={"epsilon": answer})
        elif what == "clips":
            work = answer / typical
            clips = [max(1, round(count * work)) for count in pilot.clips.tolist()]
        else:
            other = configuration(config, training={"steps": int(answer)})
            work = answer / plan_of(config, typical, 1).steps
        if work <= MOST_AGAIN:
            _, predicted = play(other, clips, only=(rule,))
            found[what] = predicted[rule][0].fidelity.tau
    return replace(wanted, found=found)


def _told(
    config: Config,
    pilot: Pilot,
    predictions: list[Prediction],
    models: Mapping[str, Model],
    *,
    want_tau: float | None,
    curve: bool,
) -> Plan:
    from fnl.device import device_in_words

    noises = [one for _, one in sorted(pilot.noise.items())]
    sizes = pilot.clips
    released = [
        one.rates * config.privacy.rate_clip_norm / sizes[partition]
        for partition, one in sorted(pilot.noise.items())
        if one.rates is not None
    ]
    asked = config.run.rounds * config.coordination.candidates
    settings, evaluation = config.coordination, config.evaluation
    each = 1 + (config.is_private and evaluation.shadow)  # models that are evaluated
    evaluations = each * -(-config.run.rounds // evaluation.every)
    back = settings.selected if settings.probe else settings.candidates
    wanted: dict[str, Wanted] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    if (want_tau is not None or curve) and config.is_private:
        wanted, points = _inverse(pilot, models, want_tau)
    return Plan(
        config=config,
        predictions=tuple(predictions),
        clips=(int(sizes.min()), int(np.median(sizes)), int(sizes.max())),
        sigma=_spread([one.gradients for one in noises]),
        rate_noise=_spread(released),
        rate_gradient=None if np.isnan(pilot.rate_gradient) else pilot.rate_gradient,
        accuracy=pilot.accuracy,
        seconds=pilot.seconds * asked + evaluations * pilot.evaluation_seconds,
        evaluation_seconds=evaluations * pilot.evaluation_seconds,
        device=device_in_words(config),
        bytes=pilot.weights_bytes * (asked + config.run.rounds * back),
        wanted=wanted,
        curve=points,
    )


def _inverse(
    pilot: Pilot, models: Mapping[str, Model], want_tau: float | None
) -> tuple[dict[str, Wanted], dict[str, list[tuple[float, float]]]]:
    from fnl.planning.predictions import by_clips, by_epsilon, by_steps, least

    config = pilot.config
    asked = planned_of(config, config.run.rounds)
    typical = int(np.median(pilot.clips)), max(1, int(np.median(asked)))
    budgets = by_epsilon(config, *typical)
    points = {
        rule: [(epsilon, model(change)) for epsilon, change in budgets]
        for rule, model in models.items()
    }
    if want_tau is None:
        return {}, points
    clips, steps = by_clips(config, *typical), by_steps(config, *typical)
    wanted = {
        rule: Wanted(
            epsilon=least(model, want_tau, budgets),
            clips=least(model, want_tau, clips),
            steps=least(model, want_tau, steps, whole=True),
        )
        for rule, model in models.items()
    }
    return wanted, points


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    if not values:
        return ()
    return float(np.min(values)), float(np.median(values)), float(np.max(values))
