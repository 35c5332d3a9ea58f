"""One round of one client: measure rates, set σ, train, measure again, and say what it cost.

Clients in a simulation, devices and audits all play their rounds here: there is no second place
that sets the noise of a client or gives it to a mechanism.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.metrics.aggregation import update_norm
from fnl.metrics.memory import peak_memory_bytes
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.randomness import Purpose, stream
from fnl.snn.evaluation import Evaluation
from fnl.training.client import LocalTraining
from fnl.training.compression import Compressed, compressed
from fnl.training.dp_sgd import TrainingSummary
from fnl.training.rates import unprotected
from fnl.training.shared_noise import masked_share
from fnl.training.spending import book_round, noise_of, workload_of
from fnl.weights import Weights
from fnl.wire.report import ClientReport


@dataclass(frozen=True)
class LocalRound:
    """What one client produced in one round. Only `weights` and `report` leave a real device.

    `ledger`, `clip_norm` (of an adaptive bound) and what `compressed` keeps as a residual are what
    its next round starts from. Of a compressed update its arrays leave, which the server makes
    `weights` of. Under shared noise `masked` leaves in place of weights, which are those of the
    global model.
    """

    weights: Weights
    report: ClientReport
    ledger: Ledger
    shadow_weights: Weights | None = None
    floor_weights: Weights | None = None
    clip_norm: float | None = None
    masked: NDArray[np.uint32] | None = None
    compressed: Compressed | None = None


@dataclass(frozen=True)
class Measure:
    """A client wants to know loss and rates of a model on its clips: an `Evaluation`."""

    client: LocalTraining
    weights: Weights

    def granted(self) -> Evaluation:
        """Return it."""
        return self.client.measure(self.weights)


@dataclass(frozen=True)
class Train:
    """A client wants a model trained on its clips: weights and a `TrainingSummary`."""

    client: LocalTraining
    weights: Weights
    noise: Noise | None
    seed: int | None = None

    def granted(self) -> tuple[Weights, TrainingSummary]:
        """Return them."""
        return self.client.train(self.weights, self.noise, seed=self.seed)


Wishes = Sequence[Measure | Train]
"""What does not depend on each other: granted in any order, together or one by one."""

Given = ParamSpec("Given")
Play = Generator[Wishes, Sequence[Any], LocalRound]
"""A round of a client, which asks for what takes time and is sent it."""


def play_round(
    config: Config,
    federation: Federation,
    *,
    partition: int,
    server_round: int,
    weights: Weights,
    ledger: Ledger,
    clip_norm: float | None = None,
    spent_rounds: Sequence[int] = (),
    noise: Noise | None = None,
    correction: Weights | None = None,
    residual: Weights | None = None,
    client: LocalTraining | None = None,
) -> Play:
    """Train from `weights` on the clips of `partition` and report rates before and after.

    In a simulation `spent_rounds` are those that count as spent whatever `ledger` says: the process
    that kept it may have been killed. On a device `noise` is what it adds in place of what the
    run's budget alone would give: its clips may have cost something before. A `correction` is added
    to the gradient of every step, behind clipping and noise. A `residual` is what compression has
    left unsent of the client's earlier updates. An audit brings a `client` of its own, whose clips
    are not all the partition's.

    Raises:
        BudgetError: if the round would cost more than is left of the budget; nothing was
            computed on the clips then.
        ConfigError: if no noise keeps the client's budget.
    """
    started = time.perf_counter()
    client = client or LocalTraining(
        config,
        federation,
        (server_round, partition),
        clip_norm=clip_norm,
        correction=correction,
    )
    spent: dict[str, Any] = {}
    if config.is_private:
        work = workload_of(config, partition, client.public_count)
        noise = noise or noise_of(config, work)
        ledger = book_round(config, ledger, noise, work, spent_rounds)
        epsilon = ledger.epsilon(work.delta, config.privacy.accountant)
        spent = {"noise_multiplier": noise.gradients, "epsilon": epsilon, "delta": work.delta}
    (before,) = yield [Measure(client, weights)]
    masked = None
    if config.shares_noise:  # rates of what one client alone computed would tell of it
        total, summary = client.clipped_sum(weights)
        masked = masked_share(config, total, (server_round, partition))
        models, measured = [weights], [before]
    else:
        trained = yield _trainings(client, weights, noise)
        models = [model for model, _ in trained]
        measured = yield [Measure(client, model) for model in models]
        summary = trained[0][1]
    after, sent = measured[0], None
    if masked is None:  # of trained weights alone, whose noise is in them
        sent = compressed(config, weights, models[0], residual, (server_round, partition))
    leaving = models[0] if sent is None else sent.weights
    rates_before, rates_after, rate_noise = client.reported_rates(before, after, noise)
    plain = _Unprotected()
    if config.evaluation.shadow:
        others = list(zip(models, measured, strict=True))
        plain = _without_privacy(client, weights, (before, after), others, noise)
    report = ClientReport(
        partition=partition,
        num_examples=client.units.count,
        frame_hop_ms=client.hop if config.data.client_hops else None,
        steps=client.plan.steps,
        sample_rate=client.plan.sample_rate,
        before=rates_before,
        after=rates_after,
        rate_noise=rate_noise,
        update_norm=None if masked is not None else update_norm(weights, leaving),
        train_loss=summary.loss,
        loss_before=before.loss,
        accuracy_before=before.accuracy,
        clip_fraction=summary.clip_fraction,
        gradient_norm_median=summary.gradient_norm_median,
        gradient_norm_q10=summary.gradient_norm_q10,
        gradient_norm_q90=summary.gradient_norm_q90,
        clip_norm=summary.clip_norm,
        **spent,
        **plain.fields,
        peak_memory_bytes=peak_memory_bytes(),
        seconds=time.perf_counter() - started,
    )
    if config.run.strict_privacy:
        report = report.accounted_only()
    shadow, floor = plain.shadow, plain.floor
    return LocalRound(leaving, report, ledger, shadow, floor, summary.clip_norm, masked, sent)


def _granted(wish: Measure | Train) -> Any:
    return wish.granted()


def finished(playing: Play, grant: Callable[[Measure | Train], Any] = _granted) -> LocalRound:
    """Play a client's round to its end, granting its wishes one by one."""
    try:
        wishes = next(playing)
        while True:
            wishes = playing.send([grant(wish) for wish in wishes])
    except StopIteration as done:
        return done.value


def _alone(play: Callable[Given, Play]) -> Callable[Given, LocalRound]:
    """Return what plays a client's round by itself."""

    def played(*args: Given.args, **given: Given.kwargs) -> LocalRound:
        return finished(play(*args, **given))

    return played


train_round = _alone(play_round)
"""Play a client's round to its end."""


def _trainings(client: LocalTraining, weights: Weights, noise: Noise | None) -> list[Train]:
    """Return the round's own training, and the shadow's and the floor's where they are wanted."""
    wanted = [Train(client, weights, noise)]
    evaluation = client.config.evaluation
    if evaluation.shadow and noise is not None:  # else it is its own shadow
        wanted.append(Train(client, weights, None))
    if evaluation.floor:
        wanted.append(Train(client, weights, None, floor_seed(client.config.run.seed)))
    return wanted


def floor_seed(seed: int) -> int:
    """Return the seed of the floor: everything its training draws is as in a run of that seed."""
    return int(stream(seed, Purpose.FLOOR).integers(0, 2**63 - 1))


@dataclass(frozen=True)
class _Unprotected:
    """A round's shadow and floor: their weights, and what a report says of them."""

    shadow: Weights | None = None
    floor: Weights | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def _without_privacy(
    client: LocalTraining,
    weights: Weights,
    measured: tuple[Evaluation, Evaluation],
    models: Sequence[tuple[Weights, Evaluation]],
    noise: Noise | None,
) -> _Unprotected:
    """Return the shadow, and where they are configured the floor and the predicted shift.

    Args:
        client: in its round.
        weights: the global model.
        measured: rates before and after the round's own training.
        models: of `_trainings`, with their rates.
        noise: of the round's own training.
    """
    before, after = measured
    shadow_weights, shadow = models[0 if noise is None else 1]

    def told(model: Weights, found: Evaluation, against: Evaluation, *, neurons: bool) -> Any:
        rates, norm = client.plain_rates(found, noise), update_norm(weights, model)
        return unprotected(rates, against, shadow, norm, neurons=neurons)

    fields: dict[str, Any] = {"shadow": told(shadow_weights, shadow, after, neurons=True)}
    if noise is not None and noise.rates is not None:
        fields["before_in_clear"] = client.plain_rates(before, noise)
    floor_weights = None
    if client.config.evaluation.floor:
        floor_weights, floor = models[-1]
        fields["floor"] = told(floor_weights, floor, floor, neurons=False)
    if client.config.evaluation.sensitivity and noise is not None:
        shift = client.predict_shift(weights, noise)
        fields["predicted_rate_shift"] = shift.mean
        fields["predicted_rate_shift_sd"] = shift.standard_deviation
    return _Unprotected(shadow_weights, floor_weights, fields)
