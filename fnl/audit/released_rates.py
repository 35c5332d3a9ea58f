"""Attack on the private release of firing rates, with nothing else released.

It is the Gaussian mechanism on a sum of clipped vectors, released by rounds that clients play
(`fnl.training.local`). One canary a release is the strongest attack on it, as no other coin is in
the way. All but the coin and the noise is known, so the noise is measured, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnl.audit.canaries import Canaries
from fnl.audit.claims import Claim, Mechanism, claim
from fnl.audit.noise_meter import NoiseMeter
from fnl.audit.rates import View, viewed
from fnl.audit.result import Attack
from fnl.audit.rounds import Rounds
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.privacy.rate_release import clip_to_norm
from fnl.training.dp_sgd import TrainingSummary
from fnl.training.local import Measure, Train, finished
from fnl.training.units import Units
from fnl.weights import Weights
from fnl.wire.report import ClientReport


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
        BudgetError: if the noise that a client sets does not keep its budget.
        ConfigError: if no noise keeps the budget.
    """
    claims, scores, included, meter = [], [], [], NoiseMeter()
    for partition, made, views in viewed(config, federation, models, repeats):
        client = _Client(
            claim(
                mechanism,
                config,
                epsilon=epsilon,
                partition=partition,
                clips=len(views[0].own) + 1,
                rates=True,
            ),
            federation,
            partition,
            [_Round(*pair, config.privacy.rate_clip_norm) for pair in pairwise(views)],
        )
        claims.append(client.claim)
        scores.append(np.array([client.judge(made, canary, meter) for canary in range(repeats)]))
        included.append(made.included)
    claimed = max(claims, key=lambda one: one.epsilon)
    found = np.concatenate(scores), np.concatenate(included)
    return Attack("rates-private", "white-box", claimed, *found, meter.most())


class _Round:
    """What is public of one round of a client, whoever is in.

    Attributes:
        before: the global model.
        known: what its own clips add to a release, [K].
        signals: what each canary would, [m, K].
    """

    def __init__(self, before: View, after: View, clip_norm: float) -> None:
        self._views = before, after
        self.before: Weights = before.weights
        own = np.hstack([before.own, after.own])
        self.known: NDArray[np.float64] = clip_to_norm(own, clip_norm).sum(axis=0)
        canaries = np.hstack([before.canaries, after.canaries])
        self.signals: NDArray[np.float64] = clip_to_norm(canaries, clip_norm)

    def grant(self, wish: Measure | Train, canary: int | None) -> Any:
        """Return what a client that holds a canary, or none, wishes for: nothing is computed."""
        before, after = self._views
        if isinstance(wish, Train):
            return after.weights, TrainingSummary(None)
        return (after if wish.weights is after.weights else before).measured(canary)


class _Client:
    """A client that holds one canary or none, and the rounds that it plays with each."""

    def __init__(
        self, claim: Claim, federation: Federation, partition: int, rounds: Sequence[_Round]
    ) -> None:
        self.claim = claim
        self._federation, self._partition, self._rounds = federation, partition, rounds
        self._own = federation.client_clips(partition)
        self._units = Units(None, len(self._own[1]) + 1)  # public: with the canary or without
        self._booked = (claim.booked or 0.0) * claim.config.privacy.rate_clip_norm

    def judge(self, made: Canaries, canary: int, meter: NoiseMeter) -> float:
        """Release rates in all rounds, and return the log likelihood ratio of a canary.

        It is in units of the noise's variance, the same for all.
        """
        alone = np.arange(len(made.included)) == canary
        held = replace(made, included=made.included & alone)
        inside, clips = bool(held.included.any()), held.joined(*self._own)
        score, rounds = 0.0, Rounds(self.claim, self._federation)
        for number, public in enumerate(self._rounds, start=1):
            path = number, self._partition, canary
            local = rounds.client(path, clips=clips, units=self._units)
            playing = rounds.play(local, path, public.before)
            inner = canary if inside else None
            played = finished(playing, lambda wish, p=public, c=inner: p.grant(wish, c))
            rest = self._units.count * _told(played.report) - public.known
            signal = public.signals[canary]
            score += float(signal @ (rest - signal / 2))
            meter.add(rest - inside * signal, self._booked)
        return score


def _told(report: ClientReport) -> NDArray[np.float64]:
    """Return the rates of a report as one vector, [2(L + C)]."""
    parts = [part for one in (report.before, report.after) for part in (one.layers, one.classes)]
    return np.concatenate(parts)
