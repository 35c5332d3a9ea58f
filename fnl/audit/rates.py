"""What firing rates tell of clips, and the attack on rates that are sent in the clear.

The models at which rates are measured are public here: they come from a federation trained
without canaries, so that all that is learned about the coins comes from the rates. In every round
a client reports rates under the model before and the model after, as a real client does.

In the clear, each class rate and each layer rate is a mean over the clips, known to the last bit:
every one is a linear equation in the coins, and m canaries are read off m numbers, a few rounds.
Many canaries are taken at once, to show how much a handful of numbers tells. The private release
is attacked in `released_rates.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fnl.audit.canaries import Canaries, coins, draw_canaries
from fnl.audit.claims import Mechanism, claim
from fnl.audit.result import Attack
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.privacy.rate_release import per_clip_rates
from fnl.snn.evaluation import Evaluation
from fnl.training.client import LocalTraining
from fnl.training.start import start_network
from fnl.weights import Weights, get_weights, weighted_mean

RAW_CANARIES = 20
"""Canaries of a client that reports rates in the clear."""


def public_models(config: Config, federation: Federation) -> list[Weights]:
    """Return the global weights before and after every round of training without canaries."""
    network = start_network(config, federation)
    models = [get_weights(network)]
    for server_round in range(1, config.run.rounds + 1):
        trained, sizes = [], []
        for partition in range(config.data.clients):
            local = LocalTraining(config, federation, (server_round, partition))
            trained.append(local.train(models[-1], None)[0])
            sizes.append(float(len(local.labels)))
        models.append(weighted_mean(trained, sizes))
    return models


class View:
    """What each clip contributes to the rates of a client under one model.

    Args:
        weights: the model.
        own: the client with the clips that are surely there.
        canaries: the same client with all of its canaries alone.

    Attributes:
        weights: the model.
        own: `per_clip_rates` of the clips that are surely there, float64 [n, L + C].
        canaries: of the canaries, [m, L + C].
        labels: of both, int64 [n] and [m].
    """

    def __init__(self, weights: Weights, own: LocalTraining, canaries: LocalTraining) -> None:
        self.weights = weights
        self.labels = own.labels.numpy(), canaries.labels.numpy()
        self._seen = own.measure(weights), canaries.measure(weights)
        self.own, self.canaries = (
            per_clip_rates(seen.clip_rates, seen.firing.neurons, labels, own.classes)
            for seen, labels in zip(self._seen, self.labels, strict=True)
        )

    def measured(self, canary: int | None) -> Evaluation:
        """Return the rates that the client measures with this canary beside its own clips.

        All neurons of a layer fire alike in it: no rate of layers or classes tells them apart.
        """
        own, theirs = self._seen
        if canary is None:
            return own
        label, rates = int(self.labels[1][canary]), theirs.clip_rates[canary]
        alone = np.arange(len(own.firing.clips)) == label
        spikes = tuple(
            np.outer(alone, np.full(neurons, rate * own.firing.steps))
            for neurons, rate in zip(own.firing.neurons, rates, strict=True)
        )
        added = replace(own.firing, spikes=spikes, clips=alone.astype(np.int64))
        clip_rates = np.vstack([own.clip_rates, rates])
        return replace(own, firing=own.firing + added, clip_rates=clip_rates)


def viewed(
    config: Config,
    federation: Federation,
    models: Sequence[Weights],
    canaries: int,
) -> Iterator[tuple[int, Canaries, list[View]]]:
    """Yield every client, canaries for it, and what clips add to its rates under each model."""
    for partition in range(config.data.clients):
        own = LocalTraining(config, federation, (1, partition))
        steps, bins = own.features.shape[1:]
        shape = steps, bins, federation.classes
        made = draw_canaries(config.run.seed, partition, canaries, shape)
        clips = made.features, made.labels
        theirs = LocalTraining(config, federation, (1, partition), clips=clips)
        yield partition, made, [View(weights, own, theirs) for weights in models]


def attack_raw_rates(
    config: Config,
    federation: Federation,
    models: Sequence[Weights],
    *,
    canaries: int = RAW_CANARIES,
    repeats: int = 1,
) -> Attack:
    """Read coins off rates in the clear.

    Args:
        config: network, clients and seed.
        federation: holds the clients' clips.
        models: from `public_models`.
        canaries: of a client.
        repeats: how often each client reports, with new coins.
    """
    scores, included = [], []
    for partition, made, views in viewed(config, federation, models, canaries):
        own = federation.client_clips(partition)
        for repeat in range(repeats):
            name = partition + repeat * config.data.clients
            tossed = coins(config.run.seed, name, canaries)
            held = Canaries(made.features, made.labels, tossed).joined(*own)
            client = LocalTraining(config, federation, (1, partition), clips=held)
            reports = [client.measure(weights) for weights in models]
            equations = [_equations(*pair) for pair in zip(views, reports, strict=True)]
            left = np.vstack([rows for rows, _ in equations])
            right = np.concatenate([values for _, values in equations])
            scores.append(np.linalg.lstsq(left, right, rcond=None)[0])
            included.append(tossed)
    infinite = claim(Mechanism.CORRECT, config, epsilon=math.inf, partition=0, clips=canaries)
    found = np.concatenate(scores), np.concatenate(included)
    return Attack("rates-raw", "white-box", infinite, *found)


def _equations(view: View, report: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear equations in the coins that a report's rates are: [L + C, m], [L + C].

    A rate r over clips of which n₀ are known, with the sum s₀, says Σᵢ bᵢ(sᵢ - r) = r·n₀ - s₀.
    A class without a rate says that none of its canaries is there.
    """
    layers = len(report.firing.neurons)
    classes = view.own.shape[1] - layers
    # which clips a rate is the mean over, [clips, L + C]
    known, counted = (
        np.hstack([np.ones((len(labels), layers)), np.eye(classes)[labels]])
        for labels in view.labels
    )
    rates = np.concatenate([report.firing.layer_rates(), report.firing.class_rates()])
    absent = np.isnan(rates)
    rates = np.where(absent, 0.0, rates)
    rows = np.where(absent, counted, view.canaries - counted * rates)
    values = np.where(absent, 0.0, rates * known.sum(axis=0) - view.own.sum(axis=0))
    return rows.T, values
