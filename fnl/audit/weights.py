"""Attacks on the weights that clients release round by round.

Every client of the federation holds its own clips and canaries by fair coins, trains as clients do
(`fnl.training.local`) in every round from the mean of all clients' weights, and releases its
weights. The auditor is the server at its worst: it knows every clip but not the coins, and sees
the weights of every client in every round. Its white-box attack decodes the coins from each
client's updates (`decoder.py`); its black-box attack only looks at how far the loss of each canary
fell between the first and the last global weights.

What the claim takes as public is public here too: the number of clips, the steps and the sampling
rate, which are planned for all canaries, included or not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from fnl.audit.canaries import Canaries, draw_canaries
from fnl.audit.claims import Mechanism, claim
from fnl.audit.decoder import CoinDecoder
from fnl.audit.gradients import clip_gradients
from fnl.audit.logits import logits_of
from fnl.audit.noise_meter import NoiseMeter
from fnl.audit.result import Attack
from fnl.audit.rounds import Rounds
from fnl.audit.step_sensitivity import first_weights
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.training.batched.choice import clients_at_once
from fnl.training.batched.rounds import play_in_batches
from fnl.training.client import LocalTraining
from fnl.training.local import Play
from fnl.weights import Weights, weighted_mean

Notify = Callable[[], None]
"""Called after every client's round, for a progress bar."""


def attack_weights(
    config: Config,
    federation: Federation,
    *,
    mechanism: Mechanism,
    epsilon: float,
    canaries: int,
    notify: Notify = lambda: None,
) -> tuple[Attack, Attack]:
    """Train the federation with `canaries` a client under a budget, and attack what it releases.

    Returns:
        The white-box attack, on every released update, and the black-box attack, on the losses
        under the first and the last global weights; the claim is of the client with the largest ε.

    Raises:
        ConfigError: if no noise keeps the budget.
        ValueError: if a client's updates have fewer numbers than canaries.
    """
    clients = [
        _Client(config, federation, k, mechanism=mechanism, epsilon=epsilon, canaries=canaries)
        for k in range(config.data.clients)
    ]
    first = weights = first_weights(config, federation)
    meter, at_once = NoiseMeter(), clients_at_once(config)
    for server_round in range(1, config.run.rounds + 1):
        trained = []
        plays = [client.play(weights, server_round, meter) for client in clients]
        for played in play_in_batches(plays, at_once):
            trained.append(played.weights)
            notify()
        weights = weighted_mean(trained, [float(client.clips) for client in clients])
    claimed = max((client.claim for client in clients), key=lambda one: one.epsilon)
    white = np.concatenate([client.decoder.scores() for client in clients])
    black = np.concatenate([client.loss(first) - client.loss(weights) for client in clients])
    included = np.concatenate([client.canaries.included for client in clients])
    return (
        Attack("weights", "white-box", claimed, white, included, meter.most()),
        Attack("weights", "black-box", claimed, black, included),
    )


class _Client:
    """One client with canaries, and what the auditor noted of it."""

    def __init__(
        self,
        config: Config,
        federation: Federation,
        partition: int,
        *,
        mechanism: Mechanism,
        epsilon: float,
        canaries: int,
    ) -> None:
        self._config, self._federation, self._partition = config, federation, partition
        self._own = federation.client_clips(partition)
        steps, bins = self._own[0].shape[1:]
        shape = (int(steps), int(bins), federation.classes)
        self.canaries: Canaries = draw_canaries(config.run.seed, partition, canaries, shape)
        self.clips = len(self._own[1]) + canaries
        self.claim = claim(
            mechanism, config, epsilon=epsilon, partition=partition, clips=self.clips
        )
        self._rounds = Rounds(self.claim, federation)
        self.decoder = CoinDecoder(canaries)

    def play(self, weights: Weights, server_round: int, meter: NoiseMeter) -> Play:
        """Play this round, and let the auditor see the weights that the client releases."""
        path = server_round, self._partition
        clips = self.canaries.joined(*self._own)
        local = self._rounds.client(path, clips=clips, public_clips=self.clips)
        played = yield from self._rounds.play(local, path, weights)
        self._observe(local, weights, played.weights, meter)
        return played

    def _observe(
        self, local: LocalTraining, before: Weights, after: Weights, meter: NoiseMeter
    ) -> None:
        """Note a released update."""
        mechanism = local.mechanism(self.claim.noise) if self.claim.noise else None
        network = local.network(before).cpu()
        own, canaries = (
            clip_gradients(
                network,
                *clips,
                mechanism,
                loss=local.plan.loss,
                draws=local.draws(),
            )
            for clips in (self._own, (self.canaries.features, self.canaries.labels))
        )
        update = np.concatenate([(before[name] - after[name]).ravel() for name in before])
        release = update.astype(np.float64)
        if mechanism and self.claim.booked and meter.reads(local.plan):
            known = own.sum(axis=0) + canaries[self.canaries.included].sum(axis=0)
            noise = release * (len(local.labels) / local.plan.learning_rate) - known
            meter.add(noise, self.claim.booked * mechanism.clip_norm)
        if local.plan.options.optimizer == "adam":
            # its steps have about one length, whatever the gradients'
            release /= float(np.sqrt(np.mean(release**2))) or 1.0
        self.decoder.add(canaries, own.sum(axis=0), release)

    def loss(self, weights: Weights) -> NDArray[np.float64]:
        """Return the cross-entropy of each canary, float64 [m]."""
        clips = self.canaries.features, self.canaries.labels
        client = LocalTraining(self._config, self._federation, (1, self._partition), clips=clips)
        losses = F.cross_entropy(logits_of(client, weights), client.labels, reduction="none")
        return losses.double().numpy()
