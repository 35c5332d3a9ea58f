"""RateStrategy: Flower's FedAvg with rate-based selection and aggregation in its hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fnl.config import Config, EvaluationGroup
from fnl.errors import RunError
from fnl.schedule import candidates
from fnl.weights import Weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport
from server.aggregation import OptimizerState, server_step
from server.client_privacy import privatise
from server.context import History
from server.coordination import Coordination, Coordinator, RoundOutcome
from server.replies.answer import Answer, answers
from server.replies.rejections import Rejection, require_enough
from server.replies.uploads import Uploads, request_uploads
from server.traffic import content_bytes

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
        """Select, weigh and average; `replies` have passed the boundary (`server/replies`).

        Raises:
            RunError: if too few of the selected upload their weights when they are asked for them,
                or a rule returned something it must not.
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
        readings = _readings(reports, self._config.evaluation)
        decisions = {
            key: self._coordinator.decide(server_round, read, self._history)
            for key, read in readings.items()
        }
        rejections: tuple[Rejection, ...] = ()
        if probe:
            uploads = self._upload(server_round, reports, decisions)
            decisions = {
                key: self._coordinator.without(
                    server_round, readings[key], self._history, decision, uploads.missing
                )
                for key, decision in decisions.items()
            }
            answered = [_with_upload(answer, uploads) for answer in answered]
            bytes_down, bytes_up = bytes_down + uploads.bytes_down, bytes_up + uploads.bytes_up
            rejections = uploads.rejections
        decision = decisions[exchange.ARRAYS]
        shadow_decision = decisions.get(exchange.SHADOW_ARRAYS)
        floor_decision = decisions.get(exchange.FLOOR_ARRAYS)
        shadow_after, floor_after = None, None
        if shadow_decision is not None and len(shadow_decision.selected):
            models = [answer.shadow_weights for answer in answered]
            shadow_after, _ = self._step(server_round, answered, models, shadow_decision)
        if floor_decision is not None and len(floor_decision.selected):
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
            rejections=rejections,
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
        reports: Sequence[ClientReport],
        decisions: Mapping[str, Coordination],
    ) -> Uploads:
        """Return the weights of the selected.

        Raises:
            RunError: if too few candidates are left, or none of the selected.
        """
        wanted = {
            key: [reports[position].partition for position in decision.selected]
            for key, decision in decisions.items()
        }
        coordination = self._config.coordination
        uploads = request_uploads(
            self._asked_grid(),
            server_round,
            self._nodes,
            wanted,
            like=self._global,
            max_update_norm=coordination.max_update_norm,
            timeout=self._config.run.reply_timeout,
        )
        usable = len(reports) - len(uploads.missing)
        require_enough(coordination, server_round, usable, uploads.rejections)
        if not uploads.models[exchange.ARRAYS]:
            raise RunError(
                f"round {server_round}: none of the {len(wanted[exchange.ARRAYS])} selected gave "
                f"weights that can be taken; {uploads.rejections[0]}"
            )
        return uploads

    def _asked_grid(self) -> Grid:
        if self._grid is None:
            raise RunError("replies came before a round was configured")
        return self._grid


def _readings(
    reports: Sequence[ClientReport], evaluation: EvaluationGroup
) -> dict[str, Sequence[ClientReport]]:
    """Return the reports that the rules decide on, under the key of the models they speak of."""
    readings: dict[str, Sequence[ClientReport]] = {exchange.ARRAYS: reports}
    if evaluation.shadow:
        readings[exchange.SHADOW_ARRAYS] = [report.as_shadow() for report in reports]
    if evaluation.floor:
        readings[exchange.FLOOR_ARRAYS] = [report.as_floor() for report in reports]
    return readings


def _with_upload(answer: Answer, uploads: Uploads) -> Answer:
    """Return `answer` with the weights that its client was asked for, if it was."""
    weights, shadow, floor = (
        uploads.models.get(key, {}).get(answer.report.partition)
        for key in (exchange.ARRAYS, exchange.SHADOW_ARRAYS, exchange.FLOOR_ARRAYS)
    )
    return replace(answer, weights=weights, shadow_weights=shadow, floor_weights=floor)


def _there(weights: Weights | None) -> Weights:
    if weights is None:
        raise RunError("a selected candidate sent no weights")
    return weights


def _under(state: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {key.removeprefix(prefix): a for key, a in state.items() if key.startswith(prefix)}
