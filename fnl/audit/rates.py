"""Attacks on firing rates alone: sent in the clear, and through the private release.

The models at which rates are measured are public here: they come from a federation trained
without canaries, so that all that is learned about the coins comes from the rates. In every round
a client reports rates under the model before and the model after, as a real client does.

In the clear, each class rate and each layer rate is a mean over the clips, known to the last bit:
every one is a linear equation in the coins, and m canaries are read off m numbers, a few rounds.
The private release is the Gaussian mechanism on a sum of clipped vectors, decoded as weights are.
One canary a release is the strongest attack on it, as no other coin is in the way; in the clear
many are taken at once, to show how much a handful of numbers tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fnl.audit.canaries import Canaries, coins, draw_canaries
from fnl.audit.claims import Mechanism, claim
from fnl.audit.result import Attack
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.privacy.rate_release import clip_to_norm, per_clip_rates, release
from fnl.randomness import Purpose, stream
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
    for partition, made, views in _viewed(config, federation, models, canaries):
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


def attack_private_rates(
    config: Config,
    federation: Federation,
    models: Sequence[Weights],
    *,
    mechanism: Mechanism,
    epsilon: float,
    repeats: int,
) -> Attack:
    """Judge one canary a release, `repeats` releases a client, over all rounds.

    Args:
        config: network, clients, seed and `privacy.rate-clip-norm`.
        federation: holds the clients' clips.
        models: from `public_models`; a round releases rates under two neighbours.
        mechanism: correct, or broken on purpose.
        epsilon: the budget of the rates alone over all rounds.
        repeats: releases of each client, each with a canary of its own.

    Raises:
        ConfigError: if no noise keeps the budget.
    """
    claimed = claim(mechanism, config, epsilon=epsilon, partition=0, clips=repeats, rates=True)
    sigma = claimed.noise.rates if claimed.noise and claimed.noise.rates else 0.0
    scores, included = [], []
    for partition, made, views in _viewed(config, federation, models, repeats):
        rounds = list(pairwise(views))
        path = (config.run.seed, partition)
        scores.append(_judge(rounds, made.included, config.privacy.rate_clip_norm, sigma, path))
        included.append(made.included)
    found = np.concatenate(scores), np.concatenate(included)
    return Attack("rates-private", "white-box", claimed, *found)


def _viewed(
    config: Config,
    federation: Federation,
    models: Sequence[Weights],
    canaries: int,
) -> Iterator[tuple[int, Canaries, list[_View]]]:
    """Yield every client, canaries for it, and what clips add to its rates under each model."""
    for partition in range(config.data.clients):
        own = LocalTraining(config, federation, (1, partition))
        steps, bins = own.features.shape[1:]
        shape = steps, bins, federation.classes
        made = draw_canaries(config.run.seed, partition, canaries, shape)
        clips = made.features, made.labels
        theirs = LocalTraining(config, federation, (1, partition), clips=clips)
        labels = made.labels.numpy(), own.labels.numpy()
        views = [
            _View(_contributions(theirs, weights), _contributions(own, weights), *labels)
            for weights in models
        ]
        yield partition, made, views


@dataclass(frozen=True)
class _View:
    """What each clip contributes to the rates of a client under one model.

    Attributes:
        canaries: `per_clip_rates` of the canaries, float64 [m, L + C].
        own: of the clips that are surely there, [n, L + C].
        canary_labels: int64 [m].
        own_labels: int64 [n].
    """

    canaries: NDArray[np.float64]
    own: NDArray[np.float64]
    canary_labels: NDArray[np.int64]
    own_labels: NDArray[np.int64]


def _contributions(client: LocalTraining, weights: Weights) -> NDArray[np.float64]:
    """Return what each clip of a client contributes to its rates, [n, L + C]."""
    seen = client.measure(weights)
    labels = client.labels.numpy()
    return per_clip_rates(seen.clip_rates, seen.firing.neurons, labels, client.classes)


def _equations(view: _View, report: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear equations in the coins that a report's rates are: [L + C, m], [L + C].

    A rate r over clips of which n₀ are known, with the sum s₀, says Σᵢ bᵢ(sᵢ - r) = r·n₀ - s₀.
    A class without a rate says that none of its canaries is there.
    """
    layers = len(report.firing.neurons)
    classes = view.own.shape[1] - layers
    # which clips a rate is the mean over, [clips, L + C]
    counted, known = (
        np.hstack([np.ones((len(labels), layers)), np.eye(classes)[labels]])
        for labels in (view.canary_labels, view.own_labels)
    )
    rates = np.concatenate([report.firing.layer_rates(), report.firing.class_rates()])
    absent = np.isnan(rates)
    rates = np.where(absent, 0.0, rates)
    rows = np.where(absent, counted, view.canaries - counted * rates)
    values = np.where(absent, 0.0, rates * known.sum(axis=0) - view.own.sum(axis=0))
    return rows.T, values


def _judge(
    rounds: Sequence[tuple[_View, _View]],
    included: NDArray[np.bool_],
    clip_norm: float,
    noise_multiplier: float,
    path: tuple[int, int],
) -> NDArray[np.float64]:
    """Release rates once a canary and round, and return the log likelihood ratio of each, [m].

    The ratio is in units of the noise's variance, the same for all.
    """
    seed, partition = path
    scores = np.zeros(len(included))
    for number, (before, after) in enumerate(rounds, start=1):
        own = np.hstack([before.own, after.own])
        canaries = np.hstack([before.canaries, after.canaries])
        known = clip_to_norm(own, clip_norm).sum(axis=0)
        signals = clip_to_norm(canaries, clip_norm)
        for canary, inside in enumerate(included):
            held = np.vstack([own, canaries[canary : canary + 1]]) if inside else own
            released = release(
                held,
                clip_norm=clip_norm,
                noise_multiplier=noise_multiplier,
                num_clips=len(own) + 1,
                generator=stream(seed, Purpose.RATE_NOISE, number, partition, canary),
            )
            signal = signals[canary]
            scores[canary] += signal @ (released * (len(own) + 1) - known - signal / 2)
    return scores
