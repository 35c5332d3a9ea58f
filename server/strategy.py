"""RateStrategy: Flower's FedAvg with rate-based selection and aggregation in its hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fnl import exchange
from fnl.config import Config
from fnl.errors import RunError
from fnl.participation import candidates
from fnl.weights import Weights
from server.aggregation import OptimizerState, server_step
from server.client_privacy import privatise
from server.context import History
from server.coordination import Coordination, Coordinator, RoundOutcome
from server.replies import Answer, answers
from server.traffic import content_bytes
from server.uploads import request_uploads

_HISTORY, _OPTIMIZER = "history/", "optimizer/"


class RateStrategy(FedAvg):
    """Select and weigh clients by their firing rates.

    In a round `coordination.candidates` clients train; the selection rule scores them on their
    reports, the aggregation rule makes one model of the best `coordination.selected`, and the
    server optimizer steps towards it. With shadows the same rules also run on the candidates'
    non-private rates, from the same state. With `coordination.probe` only the reports come with
    the first reply, and the selected are asked for their weights by a second message.

    Attributes:
        outcome: the last round, for measurement; None before the first.
    """

    def __init__(self, config: Config, nodes: dict[int, int]) -> None:
        super().__init__(
            min_train_nodes=config.coordination.candidates,
            min_available_nodes=config.data.clients,
            arrayrecord_key=exchange.ARRAYS,
            configrecord_key=exchange.CONFIG,
        )
        self.outcome: RoundOutcome | None = None
        self._config = config
        self._nodes = nodes
        self._grid: Grid | None = None
        self._global: Weights = {}
        self._bytes_down = 0
        self._coordinator = Coordinator(config)
        self._history = History.empty(config.data.clients)
        self._optimizer_state: OptimizerState = {}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of all that passes from round to round but for the model itself."""
        history = {f"{_HISTORY}{name}": a for name, a in self._history.state().items()}
        optimizer = {f"{_OPTIMIZER}{name}": a.copy() for name, a in self._optimizer_state.items()}
        return {**history, **optimizer}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what `state()` gave.

        Raises:
            RunError: if it is not of this federation.
        """
        self._history = History.from_state(_under(state, _HISTORY), self._config.data.clients)
        self._optimizer_state = _under(state, _OPTIMIZER)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's candidates, drawn from the run's public schedule."""
        self._grid = grid
        self._global = exchange.from_arrays(arrays)
        asked = candidates(
            self._config.run.seed,
            server_round,
            self._config.data.clients,
            self._config.coordination.candidates,
        )
        config[exchange.ROUND] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        nodes = [self._nodes[int(partition)] for partition in asked]
        messages = list(self._construct_messages(record, nodes, MessageType.TRAIN))
        self._bytes_down = content_bytes(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Select, weigh and average; every candidate must have answered.

        Raises:
            RunError: if a candidate failed, or a rule returned something it must not.
        """
        replies = list(replies)
        shadow, probe = self._config.evaluation.shadow, self._config.coordination.probe
        answered = answers(
            server_round,
            replies,
            asked=self._config.coordination.candidates,
            partition_of={node: partition for partition, node in self._nodes.items()},
            weights=not probe,
            shadow=shadow and not probe,
        )
        bytes_down, bytes_up = self._bytes_down, content_bytes(replies)
        reports = tuple(answer.report for answer in answered)
        decision = self._coordinator.decide(server_round, reports, self._history)
        shadow_decision = None
        if shadow:
            plain = [report.as_shadow() for report in reports]
            shadow_decision = self._coordinator.decide(server_round, plain, self._history)
        floor_decision = None
        if self._config.evaluation.floor:
            floor = [report.as_floor() for report in reports]
            floor_decision = self._coordinator.decide(server_round, floor, self._history)
        if probe:
            decisions = (decision, shadow_decision, floor_decision)
            answered, down, up = self._upload(server_round, answered, decisions)
            bytes_down, bytes_up = bytes_down + down, bytes_up + up
        shadow_after, floor_after = None, None
        if shadow_decision is not None:
            models = [answer.shadow_weights for answer in answered]
            shadow_after, _ = self._step(server_round, answered, models, shadow_decision)
        if floor_decision is not None:
            models = [answer.floor_weights for answer in answered]
            floor_after, _ = self._step(server_round, answered, models, floor_decision)
        models = [answer.weights for answer in answered]
        private = self._config.is_client_private
        after, self._optimizer_state = self._step(
            server_round, answered, models, decision, private=private
        )
        taken = [reports[position].partition for position in decision.selected]
        self._history = self._history.after(server_round, taken)
        for reply in replies:
            reply.content.clear()  # Flower holds a round's replies until the next round's are there
        self.outcome = RoundOutcome(
            reports=reports,
            decision=decision,
            shadow_decision=shadow_decision,
            before=self._global,
            after=after,
            shadow_after=shadow_after,
            floor_decision=floor_decision,
            floor_after=floor_after,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
        )
        return exchange.to_arrays(after), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate centrally only."""
        del server_round, arrays, config, grid
        return []

    def _step(
        self,
        server_round: int,
        answered: Sequence[Answer],
        models: Sequence[Weights | None],
        decision: Coordination,
        *,
        private: bool = False,
    ) -> tuple[Weights, OptimizerState]:
        """Return the next global weights and the optimizer's next state, and change nothing.

        With `private` every client's part of the aggregate is bounded and hidden in noise.
        """
        selected = [_there(models[position]) for position in decision.selected]
        if private and decision.weights is not None:
            aggregate = privatise(
                self._config, server_round, self._global, selected, decision.weights
            )
        else:
            aggregate = self._coordinator.combine(
                server_round,
                [answer.report for answer in answered],
                selected,
                decision,
                before=self._global,
            )
        return server_step(
            self._config.coordination,
            self._asked_grid(),
            server_round,
            before=self._global,
            aggregate=aggregate,
            state=self._optimizer_state,
        )

    def _upload(
        self,
        server_round: int,
        answered: Sequence[Answer],
        decisions: Sequence[Coordination | None],
    ) -> tuple[list[Answer], int, int]:
        """Return the answers with the weights of the selected, and the bytes down and up.

        `decisions` are that of the round, of its shadow and of its floor.
        """
        partitions = [answer.report.partition for answer in answered]
        keys = (exchange.ARRAYS, exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)
        wanted = {
            key: [partitions[position] for position in decision.selected]
            for key, decision in zip(keys, decisions, strict=True)
            if decision is not None
        }
        uploads = request_uploads(self._asked_grid(), server_round, self._nodes, wanted)
        weights, shadows, floors = (uploads.models.get(key, {}) for key in keys)
        complete = [
            replace(
                answer,
                weights=weights.get(partition),
                shadow_weights=shadows.get(partition),
                floor_weights=floors.get(partition),
            )
            for answer, partition in zip(answered, partitions, strict=True)
        ]
        return complete, uploads.bytes_down, uploads.bytes_up

    def _asked_grid(self) -> Grid:
        if self._grid is None:
            raise RunError("replies came before a round was configured")
        return self._grid


def _there(weights: Weights | None) -> Weights:
    if weights is None:
        raise RunError("a selected candidate sent no weights")
    return weights


def _under(state: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {key.removeprefix(prefix): a for key, a in state.items() if key.startswith(prefix)}
