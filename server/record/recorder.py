"""Evaluates the global model after each round and writes the round down."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from torch import nn

from fnl.columns import GlobalModel
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.metrics.sparsity import sparsity
from fnl.runtime.events import Event, RoundDone, RunWarning
from fnl.runtime.run_directory import RunDirectory
from fnl.runtime.saved_rounds import RunState
from fnl.runtime.tables import ROUNDS
from fnl.snn.evaluation import Evaluation, evaluate
from fnl.weights import Weights, set_weights
from server.global_round import GlobalRound
from server.record import comparison
from server.record import rows as measurement
from server.record.background import Background
from server.rounds import Rounds
from server.spending import Spending

_TOLD = 3
"""Rejections of a round that its user is told of."""


class Recorder:
    """Evaluates the global model after each round and writes the round down.

    It is called with every round, and with the first weights before the first. As a context manager
    it ends when all that it was called for is written.

    Args:
        config: of the run.
        federation: its clips.
        network: of the configured shape, to evaluate with.
        directory: where rounds are written.
        rounds: what passes from round to round, for checkpoints.
        spending: what the server knows of the clients' budgets.
        notify: tells the user of an event.
        beside: whether a round but the last is evaluated and written while the next one is under
            way.
    """

    def __init__(
        self,
        config: Config,
        federation: Federation,
        network: nn.Module,
        directory: RunDirectory,
        *,
        rounds: Rounds,
        spending: Spending,
        notify: Callable[[Event], None],
        beside: bool = False,
    ) -> None:
        self._config = config
        self._network = network
        self._rounds = rounds
        self._spending = spending
        self._directory = directory
        self._notify = notify
        self._classes = federation.classes
        self._label_names = federation.store.labels
        self._features, self._labels = federation.split_clips(config.evaluation.split)
        self._last_scores = np.full(config.data.clients, np.nan)
        for partition, score in directory.table("clients").select("partition", "score").rows():
            self._last_scores[partition] = score
        self._told_of_chance = False
        self._background = Background() if beside else None
        self._round_started = time.perf_counter()
        self._seconds: list[float] = []

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

    def start(self, weights: Weights) -> None:
        """Measure and write down what there is before the first round."""
        self._take(0, weights, None)

    def __call__(self, played: GlobalRound) -> None:
        """Measure and write down one round."""
        self._tell_of_rejections(played)
        if played.decision.at_random and not self._told_of_chance:
            self._told_of_chance = True
            self._notify(RunWarning(f"round {played.number}: noise hides the scores: at random"))
        self._take(played.number, played.after, played)

    def _take(self, number: int, weights: Weights, played: GlobalRound | None) -> None:
        """Take the round apart from all that the next round changes, and record it in its turn."""
        spent: measurement.Row = {}
        if self._config.is_private:
            clients = self._config.data.clients
            spent = measurement.epsilon_values(self._spending.epsilons, clients)
        state = RunState(number, weights, self._rounds.state(), self._spending.state())
        record = partial(self._record, state, played, spent)
        if self._background is None:
            record()
            return
        self._background.join()
        if number == self._config.run.rounds:  # nothing is beside it
            record()
        else:
            self._background.start(partial(record, seconds=self._lap()))

    def _record(
        self,
        state: RunState,
        played: GlobalRound | None,
        spent: measurement.Row,
        seconds: float | None = None,
    ) -> None:
        """Evaluate and write down one round, which took `seconds`; None: it ends with this.

        Args:
            state: of the run when the round ended.
            played: the round; None before the first.
            spent: columns of the round about what clients have spent.
            seconds: see above.
        """
        number, every = state.server_round, self._config.run.checkpoint_every
        round_row: measurement.Row = {"round": number, **spent}
        client_rows: list[measurement.Row] = []
        layer_rows: list[measurement.Row] = []
        label_rows: list[measurement.Row] = []
        evaluation = self._evaluate(state, played)
        if evaluation is not None:
            cost = sparsity(self._network, evaluation)
            round_row |= ROUNDS.of_model(GlobalModel(evaluation, cost))
            round_row |= measurement.memory_values(self._network, evaluation)
            plain = self._evaluate_shadow(played)
            if plain is not None:
                round_row |= comparison.global_shift_values(evaluation, plain)
            layer_rows += measurement.global_layer_rows(number, evaluation, plain)
            label_rows += measurement.label_rows(number, evaluation, self._label_names)
        if played is not None:
            round_row |= ROUNDS.of_round(played)
            round_row |= measurement.coordination_values(played)
            round_row |= comparison.history_values(played, self._last_scores)
            partitions = [report.partition for report in played.reports]
            self._last_scores[partitions] = played.decision.scores
            self._directory.note(peak_memory_bytes=measurement.peak_memory(played))
            client_rows = measurement.client_rows(played)
            layer_rows += measurement.client_layer_rows(played)
        if self._config.is_client_private:
            round_row["epsilon_client"] = played.epsilon_client if played is not None else 0.0
        round_row["seconds"] = self._lap() if seconds is None else seconds
        faults = measurement.fault_rows(played) if played is not None else []
        self._directory.add(
            measurement.without_nan(round_row),
            map(measurement.without_nan, client_rows),
            map(measurement.without_nan, layer_rows),
            faults,
            map(measurement.without_nan, label_rows),
        )
        save = number > 0 and number % every == 0 if every else None
        self._directory.round_done(state, save=save)
        self._notify(RoundDone(self._in_words(round_row)))

    def _in_words(self, row: measurement.Row) -> str:
        """Return a round on one line, for whoever watches."""
        last, number = self._config.run.rounds, int(row["round"])  # pyright: ignore[reportArgumentType]
        named = {
            "accuracy": "accuracy {:.3f}",
            "epsilon_max": "max epsilon {:.2f}",
        }
        named |= {"epsilon_client": "client epsilon {:.2f}", "seconds": "{:.1f} s"}
        said = [form.format(row[key]) for key, form in named.items() if row.get(key) is not None]
        if number:
            self._seconds.append(float(row["seconds"]))  # pyright: ignore[reportArgumentType]
        if self._seconds and number < last:
            left = (last - number) * sum(self._seconds) / len(self._seconds)
            said.append(f"{left:.0f} s left")
        return f"round {number}/{last}: {', '.join(said)}"

    def _lap(self) -> float:
        """Return the seconds since the last round ended, and end this one."""
        now = time.perf_counter()
        seconds, self._round_started = now - self._round_started, now
        return seconds

    def _tell_of_rejections(self, played: GlobalRound) -> None:
        """Name the first replies that were not taken; all of them are in `faults.parquet`."""
        rejections = played.rejections
        said = [f"round {played.number}, {rejection}" for rejection in rejections[:_TOLD]]
        if len(rejections) > _TOLD:
            said.append(f"round {played.number}, {len(rejections) - _TOLD} more rejected")
        for text in said:
            self._notify(RunWarning(text))

    def _evaluate(self, state: RunState, played: GlobalRound | None) -> Evaluation | None:
        due = state.server_round % self._config.evaluation.every == 0
        if not due and state.server_round != self._config.run.rounds:
            return None
        if not len(self._labels):  # the server of a deployment may have no clips
            return None
        average = played.average if played is not None else None
        return self._evaluated(state.weights if average is None else average)

    def _evaluate_shadow(self, played: GlobalRound | None) -> Evaluation | None:
        """Evaluate the model that the round would have ended with without privacy."""
        if played is None or played.shadow is None or played.shadow.after is None:
            return None
        return self._evaluated(played.shadow.after)

    def _evaluated(self, weights: Weights) -> Evaluation:
        set_weights(self._network, weights)
        return evaluate(self._network, self._features, self._labels, self._classes)
