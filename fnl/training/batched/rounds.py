"""The rounds of several clients at once: what they ask for is computed as one batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fnl.errors import BudgetError
from fnl.snn.network import SpikingNetwork
from fnl.training.batched.evaluation import evaluate_together
from fnl.training.batched.training import train_together
from fnl.training.local import LocalRound, Measure, Play, Train, Wishes, finished

Outcome = LocalRound | BudgetError
"""What came of a client's round, or why it did not take part."""


def play_in_batches(plays: Sequence[Play], at_once: int) -> Iterator[LocalRound]:
    """Yield what comes of the rounds of clients of one run and round, as an engine plays them.

    Args:
        plays: of the clients; they begin when their batch does.
        at_once: clients in a batch, at most; one that is left over plays alone.

    Raises:
        BudgetError: if a client's round would cost more than is left of its budget.
    """
    for start in range(0, len(plays), at_once):
        batch = plays[start : start + at_once]
        for outcome in play_together(batch) if len(batch) > 1 else map(finished, batch):
            if isinstance(outcome, BudgetError):
                raise outcome
            yield outcome


def play_together(plays: Sequence[Play]) -> list[Outcome]:
    """Play the rounds of clients of one run and round; return what `train_round` does of each.

    The seconds of a report are the client's share of the time of all.
    """
    started = time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    wishes: dict[int, Wishes] = {}
    for client, play in enumerate(plays):
        try:
            wishes[client] = next(play)
        except BudgetError as refusal:
            outcomes[client] = refusal
    while wishes:
        granted = _granted(wishes)
        wishes = {}
        for client, answers in granted.items():
            try:
                wishes[client] = plays[client].send(answers)
            except StopIteration as done:
                outcomes[client] = done.value
    share = (time.perf_counter() - started) / max(1, len(plays))
    return [_with_seconds(outcomes[client], share) for client in range(len(plays))]


def _granted(wishes: dict[int, Wishes]) -> dict[int, list[Any]]:
    """Return what each client wished for, in its order."""
    asked = [(client, n, wish) for client, own in wishes.items() for n, wish in enumerate(own)]
    found: dict[tuple[int, int], Any] = {}
    measured = [(place, wish) for *place, wish in asked if isinstance(wish, Measure)]
    if measured:
        first = measured[0][1]
        evaluations = evaluate_together(
            _network(first),
            [wish.weights for _, wish in measured],
            [(wish.client.features, wish.client.labels) for _, wish in measured],
            first.client.classes,
        )
        found |= {(c, n): one for ((c, n), _), one in zip(measured, evaluations, strict=True)}
    for private in (True, False):
        trained = [
            (place, wish)
            for *place, wish in asked
            if isinstance(wish, Train) and (wish.noise is not None) == private
        ]
        if trained:
            clients = [w.client.in_batch(w.weights, w.noise, seed=w.seed) for _, w in trained]
            models = train_together(_network(trained[0][1]), clients)
            found |= {(c, n): one for ((c, n), _), one in zip(trained, models, strict=True)}
    return {client: [found[client, n] for n in range(len(own))] for client, own in wishes.items()}


def _network(wish: Measure | Train) -> SpikingNetwork:
    network = wish.client.network(wish.weights)
    if not isinstance(network, SpikingNetwork):
        raise TypeError(f"{type(network).__name__} does not run for several clients")
    return network


def _with_seconds(outcome: Outcome, seconds: float) -> Outcome:
    if isinstance(outcome, BudgetError) or outcome.report.seconds is None:
        return outcome
    return replace(outcome, report=replace(outcome.report, seconds=seconds))
