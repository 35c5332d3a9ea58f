"""One client's round: measure rates, train, measure again, and say what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from clients.measurement import floor_seed, shift_fields
from clients.rates import Fields, clear_rates, comparable_rates, released_rates
from clients.sensitivity import predict_rate_shift
from clients.spending import at_least, noise_of, plan_of, refuse_overdraft, workload_of
from fnl.config import Config
from fnl.data.augmentation import Augmentation
from fnl.data.federated import Federation
from fnl.metrics.aggregation import update_norm
from fnl.metrics.memory import peak_memory_bytes
from fnl.metrics.sensitivity import RateShift
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.privacy.noise import NoiseSource, SecureNoise
from fnl.randomness import Purpose, stream, torch_stream
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, set_streams
from fnl.training.dp_sgd import Augment, GaussianMechanism, TrainingSummary, train
from fnl.weights import Weights, get_weights, set_weights
from fnl.wire.exchange import ClientReport


@dataclass(frozen=True)
class RoundOutcome:
    """What one client produced in one round. Only `weights` and `report` leave a real device.

    `ledger` and `clip_norm` (of an adaptive bound) are what its next round starts from.
    """

    weights: Weights
    report: ClientReport
    ledger: Ledger
    shadow_weights: Weights | None
    floor_weights: Weights | None = None
    clip_norm: float | None = None


def train_round(
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
) -> RoundOutcome:
    """Train from `weights` on the clips of `partition` and report rates before and after.

    In a simulation `spent_rounds` are those that count as spent whatever `ledger` says: the process
    that kept it may have been killed. On a device `noise` is what it adds in place of what the
    run's budget alone would give: its clips may have cost something before.

    Raises:
        BudgetError: if the round would cost more than is left of the budget; nothing was
            computed on the clips then.
        ConfigError: if no noise keeps the client's budget.
    """
    started = time.perf_counter()
    client = _Client(config, federation, partition, server_round, clip_norm)
    noise = noise or client.noise()
    if noise is not None:
        ledger = at_least(ledger, spent_rounds, noise, client.work)
        refuse_overdraft(config, ledger, noise, client.work)
        ledger = ledger.with_entries(noise.round_of(client.work))
    before = client.measure(weights)
    trained, summary = client.train_from(weights, noise)
    after = client.measure(trained)
    report = ClientReport(
        partition=partition,
        num_examples=len(client.labels),
        steps=client.plan.steps,
        sample_rate=client.plan.sample_rate,
        seconds=0.0,
        update_norm=update_norm(weights, trained),
        train_loss=summary.loss,
        clip_fraction=summary.clip_fraction,
        gradient_norm_median=summary.gradient_norm_median,
        loss_before=before.loss,
        gradient_norm_q10=summary.gradient_norm_q10,
        gradient_norm_q90=summary.gradient_norm_q90,
        clip_norm=summary.clip_norm,
        **client.rates(before, after, noise),
    )
    if noise is not None:
        report = replace(
            report,
            noise_multiplier=noise.gradients,
            epsilon=ledger.epsilon(
                client.work.delta, config.privacy.accountant, noise.run_of(client.work)
            ),
            delta=client.work.delta,
        )
    shadow_weights, floor_weights = None, None
    if config.evaluation.shadow:
        shadow_weights = client.train_from(weights, None)[0] if noise else trained
        shadow = client.measure(shadow_weights)
        report = replace(
            report,
            **client.shadow_rates(before, shadow, noise),
            **shift_fields(after, shadow, "shadow"),
            update_norm_shadow=update_norm(weights, shadow_weights),
        )
        if config.evaluation.floor:
            other = floor_seed(config.run.seed)
            floor_weights = client.train_from(weights, None, seed=other)[0]
            floor = client.measure(floor_weights)
            report = replace(
                report,
                **client.plain_rates(floor, "floor", noise),
                **shift_fields(floor, shadow, "floor"),
                update_norm_floor=update_norm(weights, floor_weights),
            )
        if config.evaluation.sensitivity and noise is not None:
            shift = client.predict_shift(weights, noise)
            report = replace(
                report,
                predicted_rate_shift=shift.mean,
                predicted_rate_shift_sd=shift.standard_deviation,
            )
    report = replace(
        report,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
    )
    if config.run.strict_privacy:
        report = report.accounted_only()
    return RoundOutcome(
        trained, report, ledger, shadow_weights, floor_weights, clip_norm=summary.clip_norm
    )


class _Client:
    """One client in one round: its clips, its plan, and its named streams."""

    def __init__(
        self,
        config: Config,
        federation: Federation,
        partition: int,
        server_round: int,
        clip_norm: float | None,
    ) -> None:
        self.config = config
        self.partition = partition
        self.server_round = server_round
        self.classes = federation.classes
        self.inputs = federation.inputs
        self.features, self.labels = federation.client_clips(partition)
        self.plan = plan_of(config, len(self.labels), server_round)
        self.work = workload_of(config, partition, len(self.labels))
        adaptive = config.privacy.clipping == "adaptive"
        self.clip_norm = clip_norm if adaptive and clip_norm else config.privacy.clip_norm

    def noise(self) -> Noise | None:
        """Return how much noise this client adds; None without record-level privacy."""
        return noise_of(self.config, self.work) if self.config.is_private else None

    def rates(self, before: Evaluation, after: Evaluation, noise: Noise | None) -> Fields:
        """Return the report's rates: released privately where so configured, else in the clear."""
        if noise is None or noise.rates is None:
            return clear_rates(before, "before") | clear_rates(after, "after")
        return released_rates(
            before,
            after,
            self.labels.numpy(),
            clip_norm=self.config.privacy.rate_clip_norm,
            noise_multiplier=noise.rates,
            generator=self._rate_noise(),
        )

    def shadow_rates(self, before: Evaluation, shadow: Evaluation, noise: Noise | None) -> Fields:
        """Return the shadow's rates, in the clear, comparable with what `rates` gives."""
        rates = self.plain_rates(shadow, "shadow", noise)
        if noise is None or noise.rates is None:
            return rates
        return rates | self.plain_rates(before, "before_shadow", noise)

    def plain_rates(self, evaluation: Evaluation, when: str, noise: Noise | None) -> Fields:
        """Return rates in the clear, comparable with what `rates` gives."""
        if noise is None or noise.rates is None:
            return clear_rates(evaluation, when)
        return comparable_rates(evaluation, self.labels.numpy(), when)

    def _mechanism(self, noise_multiplier: float) -> GaussianMechanism:
        privacy = self.config.privacy
        return GaussianMechanism(
            noise_multiplier,
            self.clip_norm,
            clipping=privacy.clipping,
            clipping_method=privacy.clipping_method,
            clip_quantile=privacy.clip_quantile,
            clip_learning_rate=privacy.clip_learning_rate,
        )

    def network(self, weights: Weights) -> SpikingNetwork:
        """Return the configured network with `weights`."""
        network = build_network(self.config.model, self.inputs, self.classes)
        set_weights(network, weights)
        return network

    def measure(self, weights: Weights) -> Evaluation:
        """Return loss and firing rates of `weights` on all clips of this client."""
        network = self.network(weights)
        return evaluate(network, self.features, self.labels, self.classes, rates_alone=True)

    def predict_shift(self, weights: Weights, noise: Noise) -> RateShift:
        """Return the rate shift that first order expects of this round."""
        mechanism = self._mechanism(noise.gradients)
        clips = (self.features, self.labels)
        stream = (self.config.run.seed, self.server_round, self.partition)
        return predict_rate_shift(self.network(weights), clips, self.plan, mechanism, stream=stream)

    def train_from(
        self, weights: Weights, noise: Noise | None, *, seed: int | None = None
    ) -> tuple[Weights, TrainingSummary]:
        """Return the weights after this round's steps; seeded, all is drawn the same every time.

        With a `seed` everything is drawn as in a run of that seed instead of this one's.
        """
        network = self.network(weights)
        seed = self.config.run.seed if seed is None else seed
        set_streams(network, seed, self.server_round, self.partition)
        summary = train(
            network,
            self.features,
            self.labels,
            self.plan,
            batches=self._stream(Purpose.BATCHES, seed),
            mechanism=self._mechanism(noise.gradients) if noise else None,
            noise=self._stream(Purpose.PRIVACY_NOISE, seed),
            augment=self._augment(seed),
        )
        return get_weights(network), summary

    def _augment(self, seed: int) -> Augment | None:
        if not self.config.training.augmentation:
            return None
        # what is drawn here looks at no data and hides nothing: never secure
        generator = torch_stream(seed, Purpose.AUGMENTATION, self.server_round, self.partition)
        return partial(Augmentation(), stream=generator)

    def _rate_noise(self) -> NoiseSource:
        if self.config.privacy.secure_noise:
            return SecureNoise()
        path = (self.server_round, self.partition)
        return stream(self.config.run.seed, Purpose.RATE_NOISE, *path)

    def _stream(self, purpose: Purpose, seed: int) -> torch.Generator | SecureNoise:
        if self.config.is_private and self.config.privacy.secure_noise:
            return SecureNoise()
        return torch_stream(seed, purpose, self.server_round, self.partition)
