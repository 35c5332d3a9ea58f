"""Evaluates the global model after each round and writes the round down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import INFO
from types import TracebackType
from typing import Self

import numpy as np
from flwr.app import ArrayRecord, MetricRecord
from flwr.common.logger import log
from numpy.typing import NDArray
from pydantic import JsonValue

from fnl.config import Config
from fnl.data.federated import Federation
from fnl.metrics.sparsity import sparsity
from fnl.privacy.client_level import epsilon_client
from fnl.runtime.run_directory import RunDirectory, RunState
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.snn.network import SpikingNetwork
from fnl.weights import Weights, set_weights
from fnl.wire import exchange
from server.coordination import RoundOutcome
from server.fault_tolerant_strategy import GuardedStrategy
from server.record import comparison
from server.record import rows as measurement
from server.record.background import Background
from server.record.faults import fault_rows_of, taken_values
from server.record.history import History
from server.strategy import RateStrategy

_TOLD = 3
"""Rejections of a round that its user is told of."""


@dataclass(frozen=True)
class _Round:
    """All that is written of a round, as it was when the round ended.

    Attributes:
        number: the round, 0 before the first.
        weights: the global model.
        outcome: what the rules decided; None before the first round.
        values: columns of the round that are known already.
        fault_rows: rows of the table of faults.
        strategy: arrays that the rules go on from.
        spending: what the server knows of the clients' budgets, as JSON.
    """

    number: int
    weights: Weights
    outcome: RoundOutcome | None
    values: measurement.Row
    fault_rows: Sequence[measurement.Row]
    strategy: Mapping[str, NDArray[np.generic]]
    spending: Mapping[str, JsonValue]


class Recorder:
    """Evaluates the global model after each round and writes the round down.

    Flower calls it with the round's number and the global arrays, before the first round with 0;
    of a resumed run it counts from where the run goes on. As a context manager it ends when all
    that it was called for is written.

    Args:
        config: of the run.
        federation: its clips.
        network: of the configured shape, to evaluate with.
        strategy: what takes the rounds.
        directory: where they are written.
        guarded: what stands around the strategy.
        notify: shows a message to the user.
        beside: whether a round but the last is evaluated and written while the next one is under
            way. Its metrics are in the tables and in the log then, and Flower is told none.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        network: SpikingNetwork,
        strategy: RateStrategy,
        directory: RunDirectory,
        *,
        guarded: GuardedStrategy,
        notify: Callable[[str], None],
        beside: bool = False,
    ) -> None:
        self._guarded = guarded
        self._notify = notify
        self._spending = guarded.spending
        self._done = guarded.done
        self._config = config
        self._network = network
        self._strategy = strategy
        self._directory = directory
        self._classes = federation.classes
        self._features, self._labels = federation.split_clips(config.evaluation.split)
        self._history = History(config.data.clients)
        self._history.replay(directory.table("clients").iter_rows(named=True))
        self._background = Background() if beside else None
        self._round_started = time.perf_counter()

    def __enter__(self) -> Self:
        """Return this recorder."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is still to be written; raise what went wrong with it."""
        if self._background is None:
            return
        try:
            self._background.close()
        except Exception:
            # it came first, unless the user has ended the run
            if error is None or isinstance(error, Exception):
                raise

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Measure and write down one round; the round that a run resumes from is there already."""
        if self._done and server_round == 0:
            return None
        server_round += self._done
        if self._background is None:
            return self._record(self._taken(server_round, arrays))
        self._background.join()
        taken = self._taken(server_round, arrays)
        if server_round == self._config.run.rounds:  # there is nothing to do beside it
            return self._record(taken)
        self._background.start(partial(self._record, taken, self._lap()))
        return None

    def _taken(self, server_round: int, arrays: ArrayRecord) -> _Round:
        """Book the round's costs, and return it apart from all that the next round changes."""
        outcome, rejections = self._strategy.outcome, self._guarded.rejections
        values: measurement.Row = {"round": server_round}
        fault_rows: list[measurement.Row] = []
        if outcome is not None:
            self._spending.answered(server_round, outcome.reports)
            reported = {report.partition for report in outcome.reports}
            fault_rows = fault_rows_of(server_round, rejections, self._spending, reported)
            self._tell_of_rejections(server_round)
            values |= taken_values(outcome, rejections)
        if self._config.is_private:
            clients = self._config.data.clients
            values |= measurement.epsilon_values(self._spending.epsilons, clients)
        return _Round(
            number=server_round,
            weights=exchange.from_arrays(arrays),
            outcome=outcome,
            values=values,
            fault_rows=fault_rows,
            strategy={name: value.copy() for name, value in self._strategy.state().items()},
            spending=self._spending.state(),
        )

    def _record(self, taken: _Round, seconds: float | None = None) -> MetricRecord | None:
        """Evaluate and write down one round, which took `seconds`; None: it ends with this."""
        outcome, round_row = taken.outcome, {**taken.values}
        client_rows: list[measurement.Row] = []
        layer_rows: list[measurement.Row] = []
        evaluation = self._evaluate(taken)
        if evaluation is not None:
            cost = sparsity(self._network, evaluation)
            round_row |= measurement.evaluation_values(evaluation, cost)
            round_row |= measurement.memory_values(self._network, evaluation)
            plain = self._evaluate_shadow(outcome)
            if plain is not None:
                round_row |= comparison.global_shift_values(evaluation, plain)
            layer_rows += measurement.global_layer_rows(taken.number, evaluation, plain)
        if outcome is not None:
            round_row |= measurement.coordination_values(outcome)
            round_row |= comparison.history_values(outcome, self._history)
            self._directory.note(peak_memory_bytes=measurement.peak_memory(outcome))
            client_rows = measurement.client_rows(taken.number, outcome)
            layer_rows += measurement.client_layer_rows(taken.number, outcome)
        if self._config.is_client_private:
            round_row["epsilon_client"] = epsilon_client(self._config, taken.number)
        round_row["seconds"] = self._lap() if seconds is None else seconds
        self._directory.add(round_row, client_rows, layer_rows, taken.fault_rows)
        self._round_done(taken)
        if evaluation is None:
            return None
        metrics = MetricRecord({"accuracy": evaluation.accuracy, "loss": evaluation.loss})
        if seconds is not None:  # Flower has logged for this round that there are none
            log(INFO, "Global evaluation of round %s: %s", taken.number, metrics)
        return metrics

    def _round_done(self, taken: _Round) -> None:
        every = self._config.run.checkpoint_every
        self._directory.round_done(
            RunState(taken.number, taken.weights, taken.strategy, taken.spending),
            save=every > 0 and taken.number > 0 and taken.number % every == 0,
        )

    def _lap(self) -> float:
        """Return the seconds since the last round ended, and end this one."""
        now = time.perf_counter()
        seconds, self._round_started = now - self._round_started, now
        return seconds

    def _tell_of_rejections(self, server_round: int) -> None:
        """Name the first replies that were not taken; all of them are in `faults.parquet`."""
        rejections = self._guarded.rejections
        for rejection in rejections[:_TOLD]:
            self._notify(f"warning: round {server_round}, {rejection}")
        if len(rejections) > _TOLD:
            self._notify(f"warning: round {server_round}, {len(rejections) - _TOLD} more rejected")

    def _evaluate(self, taken: _Round) -> Evaluation | None:
        due = taken.number % self._config.evaluation.every == 0
        if not due and taken.number != self._config.run.rounds:
            return None
        if not len(self._labels):  # the server of a deployment may have no clips
            return None
        set_weights(self._network, taken.weights)
        return evaluate(self._network, self._features, self._labels, self._classes)

    def _evaluate_shadow(self, outcome: RoundOutcome | None) -> Evaluation | None:
        """Evaluate the model that the round would have ended with without privacy."""
        if outcome is None or outcome.shadow_after is None:
            return None
        set_weights(self._network, outcome.shadow_after)
        return evaluate(self._network, self._features, self._labels, self._classes)
