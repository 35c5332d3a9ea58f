"""A pilot, played and scored by the run's own rules: the server's side of it, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from flwr.serverapp import Grid

from fnl.config import Config
from fnl.config.rules import SELECTIONS
from fnl.fidelity.rules import UNRANKED
from fnl.planning.matching import pilot_federation
from fnl.planning.pilot import Pilot, Play, run_pilot
from fnl.planning.predictions import Model, Prediction, Scored, predict
from fnl.training.local import LocalRound
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from server.context import History
from server.coordination import Coordinator
from server.replies.vetting import Answer
from server.rounds import Rounds


def piloted(
    config: Config,
    counts: Sequence[int],
    *,
    length: int,
    progress: Callable[[int, int], None] | None,
    only: Sequence[str] = (),
) -> tuple[Pilot, dict[str, tuple[Prediction, Model]]]:
    """Return a pilot and what it says of the rules `only`, or of all that rank."""
    pilot_config, federation = pilot_federation(config, counts, progress=progress is not None)
    done, total = iter(range(1, 10**9)), length * config.coordination.candidates
    tell = progress or (lambda _done, _total: None)
    found = run_pilot(
        pilot_config, federation, length, play_of(pilot_config),
        evaluation=config.evaluation, progress=lambda: tell(next(done), total),
    )  # fmt: skip
    ranked = only or tuple(rule for rule in SELECTIONS if rule not in UNRANKED)
    return found, {
        rule: predict(rule, scored, found.rates, pilot_config)
        for rule, scored in scores_of(found, ranked).items()
    }


def play_of(config: Config) -> Play:
    """Return the server's side of a pilot: the run's own rules, in this process."""
    no_grid = cast("Grid", None)  # only probes and server optimizers look at it
    rounds = Rounds(config, {}, no_grid)

    def play(number: int, answers: Sequence[LocalRound], weights: Weights) -> Weights:
        read = [
            Answer(
                answer.report,
                {
                    exchange.ARRAYS: answer.weights,
                    exchange.SHADOW_ARRAYS: answer.shadow_weights or answer.weights,
                    exchange.FLOOR_ARRAYS: answer.floor_weights or answer.weights,
                },
                0,
            )
            for answer in answers
        ]
        asked = [answer.report.partition for answer in answers]
        return rounds.play(number, read, asked=asked, before=weights).after

    return play


def scores_of(pilot: Pilot, rules: Sequence[str]) -> dict[str, Scored]:
    """Return what every rule says of the pilot's reports, of their shadows, and of their floors."""

    def each(read: Callable[[ClientReport], ClientReport]) -> list[list[ClientReport]]:
        return [[read(report) for report in row] for row in pilot.reports]

    shadows, floors = each(ClientReport.as_shadow), each(ClientReport.as_floor)
    rounds = list(zip(pilot.reports, shadows, pilot.clipped, floors, strict=True))
    scored: dict[str, Scored] = {}
    for rule in rules:
        settings = pilot.config.coordination.model_copy(
            update={"selection": rule, "aggregation": "fedavg", "algorithm": "none"}
        )
        coordinator = Coordinator(pilot.config.model_copy(update={"coordination": settings}))
        found: list[list[Any]] = []
        history = History.empty(pilot.config.data.clients)
        for number, readings in enumerate(rounds, start=1):
            decisions = [coordinator.decide(number, reports, history, {}) for reports in readings]
            found.append([decision.scores for decision in decisions])
            partitions, private = [report.partition for report in readings[0]], decisions[0]
            chosen = [partitions[k] for k in private.selected]
            history = history.after(number, chosen, answered=partitions, memory=private.memory)
        scored[rule] = Scored(*np.array(found).swapaxes(0, 1))
    return scored
