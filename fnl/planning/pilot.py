"""A short run of the planned configuration on synthetic clips, with all that a law needs of it.

It is the run's own training: the same steps, noise set for all planned rounds, the same rules; with
shadow and floor beside every candidate. It writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config, EvaluationGroup
from fnl.data.federated import Federation
from fnl.device import chosen_device
from fnl.errors import BudgetError, ConfigError
from fnl.fidelity.moments import Floats
from fnl.fidelity.rules import NoisyRates
from fnl.metrics.aggregation import flatten, update_norm
from fnl.metrics.sensitivity import weight_noise
from fnl.privacy.budget import Budget, Noise
from fnl.privacy.ledger import Ledger
from fnl.runtime.determinism import one_thread
from fnl.schedule import asked_in
from fnl.snn.evaluation import evaluate
from fnl.training.batched.choice import clients_at_once
from fnl.training.batched.rounds import play_in_batches
from fnl.training.client import LocalTraining
from fnl.training.local import LocalRound, play_round, train_round
from fnl.training.sensitivity import class_rate_gradients
from fnl.training.spending import noise_of, workload_of
from fnl.training.start import network_of, start_network
from fnl.weights import Weights, get_weights
from fnl.wire.report import ClientReport

_TIMED = 4
"""Candidates of the first round that are timed, as they differ in clips."""

Play = Callable[[int, Sequence[LocalRound], Weights], Weights]
"""What a round's answers make of the global model: round, answers in partition order, weights."""


@dataclass(frozen=True)
class Pilot:
    """What a pilot found.

    Attributes:
        config: of the pilot.
        reports: of each round's candidates, in partition order.
        clipped: the same with clipping and without noise.
        rates: clean rates and their noise; None where training's noise has no law: under Adam, and
            where there is none.
        accuracy: of the global model before the first round and after each.
        noise: of each client that is asked, by partition; empty without privacy.
        clips: n_k of the pilot's clients, [N].
        seconds: of one client's round, as the run has it: with a shadow and a floor if it has. On a
            processor they are its own, whatever else the machine does.
        evaluation_seconds: of the global model's evaluation, on the pilot's clips.
        weights_bytes: of one model.
        rate_gradient: mean ‖∇r‖ of the network's rate; nan where `rates` is None.
    """

    config: Config
    reports: tuple[tuple[ClientReport, ...], ...]
    clipped: tuple[tuple[ClientReport, ...], ...]
    rates: NoisyRates | None
    accuracy: tuple[float, ...]
    noise: dict[int, Noise]
    clips: NDArray[np.int64]
    seconds: float
    evaluation_seconds: float
    weights_bytes: int
    rate_gradient: float


def client_noises(config: Config, clips: Sequence[int]) -> dict[int, Noise]:
    """Return the noise of every client that the schedule asks, from public numbers alone."""
    if not config.is_private:
        return {}
    works = {
        partition: workload_of(config, partition, count) for partition, count in enumerate(clips)
    }
    asked = {partition: work for partition, work in works.items() if work.rounds}
    if config.privacy.noise_allocation == "uniform-noise" and not config.privacy.noise_multiplier:
        budget = Budget(config.privacy.epsilon, config.rate_epsilon, config.privacy.accountant)
        return dict.fromkeys(asked, budget.noise_of_all(list(asked.values())))
    known: dict[object, Noise] = {}
    for work in asked.values():
        if work not in known:
            known[work] = noise_of(config, work)
    return {partition: known[work] for partition, work in asked.items()}


def run_pilot(
    config: Config,
    federation: Federation,
    rounds: int,
    play: Play,
    *,
    evaluation: EvaluationGroup,
    progress: Callable[[], None] = lambda: None,
) -> Pilot:
    """Play the first `rounds` rounds of `config` on the clips of `federation`.

    Args:
        config: of a pilot.
        federation: its clips.
        rounds: at most those of the run.
        play: see `Play`.
        evaluation: of the run, which decides what its clients compute.
        progress: is called after each candidate.
    """
    clips = federation.partitioning.sizes()
    noises = client_noises(config, clips.tolist())
    with one_thread():
        weights = get_weights(start_network(config, federation))
        _check_spikes(config, federation, weights)
        as_run = config.model_copy(update={"evaluation": evaluation})
        seconds = _seconds_of_a_round(as_run, federation, weights, noises)
        ledgers: dict[int, Ledger] = {}
        bounds: dict[int, float | None] = {}
        accuracy = [_accuracy(config, federation, weights)]
        clock = _clock(config)
        started = clock()
        _accuracy(config, federation, weights)  # again: the first one warms up
        evaluation_seconds = clock() - started
        reports: list[tuple[ClientReport, ...]] = []
        clipped: list[tuple[ClientReport, ...]] = []
        gathered: list[list[_Gradients]] = []
        for number in range(1, rounds + 1):
            asked = _asked(config, number)
            answers = []
            for partition in asked:
                answers.append(
                    train_round(
                        config,
                        federation,
                        partition=partition,
                        server_round=number,
                        weights=weights,
                        ledger=ledgers.get(partition, Ledger()),
                        clip_norm=bounds.get(partition),
                        noise=noises.get(partition),
                    )
                )
                ledgers[partition] = answers[-1].ledger
                bounds[partition] = answers[-1].clip_norm
                progress()
            clipped.append(
                tuple(_clipped(config, federation, number, weights, one) for one in answers)
            )
            if _has_law(config):
                gathered.append(
                    [_gradients(config, federation, number, weights, one) for one in answers]
                )
            weights = play(number, answers, weights)
            accuracy.append(_accuracy(config, federation, weights))
            reports.append(tuple(answer.report for answer in answers))
    rates = _noisy_rates(reports, clipped, gathered, weights) if gathered else None
    return Pilot(
        config=config,
        reports=tuple(reports),
        clipped=tuple(clipped),
        rates=rates,
        accuracy=tuple(accuracy),
        noise=noises,
        clips=clips,
        seconds=seconds,
        evaluation_seconds=evaluation_seconds,
        weights_bytes=sum(array.nbytes for array in weights.values()),
        rate_gradient=float(rates.rate_gradient.mean()) if rates is not None else float("nan"),
    )


def _check_spikes(config: Config, federation: Federation, weights: Weights) -> None:
    """Refuse a network that has no rates to rank by."""
    if not LocalTraining(config, federation, (1, 0)).measure(weights).firing.neurons:
        raise ConfigError(
            f"model.network = {config.model.network!r} has no spiking neurons: there are no rates "
            "to rank clients by"
        )


def _asked(config: Config, number: int) -> list[int]:
    return asked_in(config, number).tolist()


def _has_law(config: Config) -> bool:
    """Whether steps are linear in the gradient, noise is added to it, and something fires."""
    return config.is_private and config.training.optimizer == "sgd"


def _seconds_of_a_round(
    config: Config, federation: Federation, weights: Weights, noises: dict[int, Noise]
) -> float:
    """Return a candidate's share of the time of several, as many at once as in the run."""
    at_once = clients_at_once(config)

    def given(partition: int) -> dict[str, Any]:
        noise, ledger = noises.get(partition), Ledger()
        told = {"partition": partition, "server_round": 1, "weights": weights}
        return told | {"config": config, "federation": federation, "noise": noise, "ledger": ledger}

    def play(partitions: Sequence[int]) -> None:
        plays = [play_round(**given(partition)) for partition in partitions]
        for _ in play_in_batches(plays, at_once):
            pass

    asked, clock = _asked(config, 1)[: max(_TIMED, at_once)], _clock(config)
    play(asked[:at_once])  # warms up
    started = clock()
    play(asked)
    return (clock() - started) / len(asked)


def _clock(config: Config) -> Callable[[], float]:
    """Return what tells seconds of work: a processor's own, which no other program adds to."""
    return time.process_time if chosen_device(config).type == "cpu" else time.perf_counter


def _accuracy(config: Config, federation: Federation, weights: Weights) -> float:
    network = network_of(config, federation, weights)
    clips = federation.split_clips(config.evaluation.split)
    return evaluate(network, *clips, federation.classes).accuracy


def _clipped(
    config: Config, federation: Federation, number: int, weights: Weights, answer: LocalRound
) -> ClientReport:
    """Return what a candidate would have reported with clipping and without noise."""
    report = answer.report
    if report.noise_multiplier is None:
        return report.as_shadow()
    bound = report.clip_norm if config.privacy.clipping == "adaptive" else None
    client = LocalTraining(config, federation, (number, report.partition), clip_norm=bound)
    noise = Noise(0.0, 0.0 if report.rate_released else None)
    trained, _ = client.train(weights, noise)
    rates = client.plain_rates(client.measure(trained), noise)
    return replace(report.as_shadow(), after=rates, update_norm=update_norm(weights, trained))


@dataclass(frozen=True)
class _Gradients:
    """What first order needs of a candidate: τ, ∇r_c·∇r_c' [C, C], ‖∇r‖, and shares of layers."""

    weight_noise: float
    gram: Floats
    norm: float
    network_share: float


def _gradients(
    config: Config, federation: Federation, number: int, weights: Weights, answer: LocalRound
) -> _Gradients:
    report = answer.report
    client = LocalTraining(config, federation, (number, report.partition))
    network = network_of(config, federation, weights)
    parts = class_rate_gradients(network, client.features, client.labels, federation.classes)
    norm = float(parts.sum(0).norm())
    if not report.rate_released:  # then a class' rate is the mean over its clips
        counts = client.labels.bincount(minlength=federation.classes).double()
        parts *= (len(client.labels) / counts.clamp(min=1))[:, None]
    if report.noise_multiplier is None:
        raise BudgetError("a private client reported no noise")
    plan = client.plan
    tau = weight_noise(
        noise_multiplier=report.noise_multiplier,
        clip_norm=report.clip_norm or config.privacy.clip_norm,
        expected_batch=plan.sample_rate * len(client.labels),
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        momentum=plan.options.momentum,
    )
    neurons = np.array(client.measure(weights).firing.neurons, np.float64)
    share = float(np.linalg.norm(neurons) / neurons.sum())
    return _Gradients(tau, (parts @ parts.T).numpy(), norm, share)


def _noisy_rates(
    reports: Sequence[Sequence[ClientReport]],
    clipped: Sequence[Sequence[ClientReport]],
    gathered: Sequence[Sequence[_Gradients]],
    weights: Weights,
) -> NoisyRates:
    def each(
        value: Callable[[ClientReport], object], of: Sequence[Sequence[ClientReport]] = reports
    ) -> Floats:
        return np.array([[value(report) for report in row] for row in of], np.float64)

    def found(value: Callable[[_Gradients], object]) -> Floats:
        return np.array([[value(one) for one in row] for row in gathered], np.float64)

    shadows = [[report.as_shadow() for report in row] for row in reports]

    def rates(of: Sequence[Sequence[ClientReport]]) -> Floats:
        return each(lambda report: report.firing_rate_after, of)

    def classes(of: Sequence[Sequence[ClientReport]], *, before: bool = False) -> Floats:
        return np.nan_to_num(each(lambda r: (r.before if before else r.after).classes, of))

    release = each(lambda report: report.rate_noise or 0.0)
    return NoisyRates(
        before=each(lambda report: report.firing_rate_before, shadows),
        after=rates(shadows),
        classes_before=classes(shadows, before=True),
        classes_after=classes(shadows),
        update_norm=each(lambda report: report.update_norm, shadows),
        clipped_after=rates(clipped),
        clipped_classes=classes(clipped),
        clipped_norm=each(lambda report: report.update_norm, clipped),
        weight_noise=found(lambda one: one.weight_noise),
        class_gram=found(lambda one: one.gram),
        rate_gradient=found(lambda one: one.norm),
        release=release,
        release_network=release * found(lambda one: one.network_share),
        parameters=flatten(weights).size,
        shift=float((rates(reports) - rates(clipped)).mean()),
        class_shift=(classes(reports) - classes(clipped)).mean((0, 1)),
    )
