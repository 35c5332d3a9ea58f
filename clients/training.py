"""One client's round: measure rates, train, measure again, and say what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from fnl.config import Config
from fnl.data.augmentation import Augmentation
from fnl.data.federated import Federation
from fnl.exchange import ClientReport
from fnl.metrics.aggregation import update_norm
from fnl.participation import planned_participations
from fnl.privacy.dp_sgd import Augment, GaussianMechanism, TrainingPlan, TrainingSummary, train
from fnl.privacy.ledger import Ledger, calibrate
from fnl.randomness import Purpose, torch_stream
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork, build_network, set_streams
from fnl.weights import Weights, get_weights, set_weights


@dataclass(frozen=True)
class RoundOutcome:
    """What one client produced in one round. Only `weights` and `report` leave a real device."""

    weights: Weights
    report: ClientReport
    ledger: Ledger
    shadow_weights: Weights | None


def train_round(
    config: Config,
    federation: Federation,
    *,
    partition: int,
    server_round: int,
    weights: Weights,
    ledger: Ledger,
) -> RoundOutcome:
    """Train from `weights` on the clips of `partition` and report rates before and after.

    Raises:
        ConfigError: if no noise keeps the client's budget.
    """
    started = time.perf_counter()
    client = _Client(config, federation, partition, server_round)
    before = client.measure(weights)
    mechanism = client.mechanism()
    trained, summary = client.train_from(weights, mechanism)
    after = client.measure(trained)
    if mechanism is not None:
        ledger = ledger.spend(
            mechanism.noise_multiplier, client.plan.sample_rate, client.plan.steps
        )
    report = ClientReport(
        partition=partition,
        num_examples=len(client.labels),
        steps=client.plan.steps,
        sample_rate=client.plan.sample_rate,
        seconds=0.0,
        firing_rate_before=before.firing.rate(),
        firing_rate_after=after.firing.rate(),
        layer_rates_before=before.firing.layer_rates().tolist(),
        layer_rates_after=after.firing.layer_rates().tolist(),
        class_rates_before=before.firing.class_rates().tolist(),
        class_rates_after=after.firing.class_rates().tolist(),
        update_norm=update_norm(weights, trained),
        train_loss=summary.loss,
        clip_fraction=summary.clip_fraction,
        gradient_norm_median=summary.gradient_norm_median,
    )
    if mechanism is not None:
        report = replace(
            report,
            noise_multiplier=mechanism.noise_multiplier,
            epsilon=ledger.epsilon(config.privacy.delta, config.privacy.accountant),
            delta=config.privacy.delta,
        )
    shadow_weights = None
    if config.evaluation.shadow:
        shadow_weights = client.train_from(weights, None)[0] if mechanism else trained
        shadow = client.measure(shadow_weights)
        report = replace(
            report,
            firing_rate_shadow=shadow.firing.rate(),
            layer_rates_shadow=shadow.firing.layer_rates().tolist(),
            class_rates_shadow=shadow.firing.class_rates().tolist(),
        )
    report = replace(report, seconds=time.perf_counter() - started)
    return RoundOutcome(trained, report, ledger, shadow_weights)


class _Client:
    """One client in one round: its clips, its plan, and its named streams."""

    def __init__(
        self, config: Config, federation: Federation, partition: int, server_round: int
    ) -> None:
        self.config = config
        self.partition = partition
        self.server_round = server_round
        self.classes = federation.classes
        self.inputs = federation.inputs
        self.features, self.labels = federation.client_clips(partition)
        training = config.training
        self.plan = TrainingPlan.for_clips(
            len(self.labels),
            batch_size=training.batch_size,
            local_epochs=training.local_epochs,
            optimizer=training.optimizer,
            learning_rate=training.learning_rate_of(server_round, config.run.rounds),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            label_smoothing=training.label_smoothing,
        )

    def mechanism(self) -> GaussianMechanism | None:
        """Return clipping and noise of this client: σ given, or from ε and its planned rounds."""
        privacy = self.config.privacy
        if not self.config.is_private:
            return None
        if privacy.noise_multiplier > 0:
            return self._mechanism(privacy.noise_multiplier)
        rounds = planned_participations(
            self.config.run.seed,
            self.config.run.rounds,
            self.config.data.clients,
            self.config.coordination.candidates,
        )[self.partition]
        sigma = calibrate(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            sample_rate=self.plan.sample_rate,
            steps=self.plan.steps * int(rounds),
            accountant=privacy.accountant,
        )
        return self._mechanism(sigma)

    def _mechanism(self, noise_multiplier: float) -> GaussianMechanism:
        privacy = self.config.privacy
        return GaussianMechanism(
            noise_multiplier,
            privacy.clip_norm,
            clipping=privacy.clipping,
            clipping_method=privacy.clipping_method,
        )

    def network(self, weights: Weights) -> SpikingNetwork:
        """Return the configured network with `weights`."""
        network = build_network(self.config.model, self.inputs, self.classes)
        set_weights(network, weights)
        return network

    def measure(self, weights: Weights) -> Evaluation:
        """Return loss and firing rates of `weights` on all clips of this client."""
        return evaluate(self.network(weights), self.features, self.labels, self.classes)

    def train_from(
        self, weights: Weights, mechanism: GaussianMechanism | None
    ) -> tuple[Weights, TrainingSummary]:
        """Return the weights after this round's steps; all is drawn the same at every call."""
        network = self.network(weights)
        set_streams(network, self.config.run.seed, self.server_round, self.partition)
        summary = train(
            network,
            self.features,
            self.labels,
            self.plan,
            batches=self._stream(Purpose.BATCHES),
            mechanism=mechanism,
            noise=self._stream(Purpose.PRIVACY_NOISE),
            augment=self._augment(),
        )
        return get_weights(network), summary

    def _augment(self) -> Augment | None:
        if not self.config.training.augmentation:
            return None
        return partial(Augmentation(), stream=self._stream(Purpose.AUGMENTATION))

    def _stream(self, purpose: Purpose) -> torch.Generator:
        return torch_stream(self.config.run.seed, purpose, self.server_round, self.partition)
