"""RateStrategy: Flower's FedAvg with rate-based selection and weighting in its hooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fnl import exchange
from fnl.config import Config
from fnl.errors import RunError
from fnl.participation import candidates
from fnl.weights import Weights, weighted_mean
from server.client_privacy import privatise
from server.coordination import Coordination, Coordinator, RoundOutcome
from server.replies import Answer, answers


class RateStrategy(FedAvg):
    """Select and weigh clients by their firing rates.

    In a round `coordination.candidates` clients train; the selection rule scores them on their
    reports, the best `coordination.selected` are averaged with the aggregation rule's weights, as
    Flower's FedAvg averages but without its copies. With shadows the same rules also run on the
    candidates' non-private rates.

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
        self._global: Weights = {}
        self._coordinator = Coordinator(config)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's candidates, drawn from the run's public schedule."""
        del grid
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
        return self._construct_messages(record, nodes, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Select, weigh and average; every candidate must have answered.

        Raises:
            RunError: if a candidate failed, or a rule returned something it must not.
        """
        replies = list(replies)
        shadow = self._config.evaluation.shadow
        answered = answers(
            server_round,
            replies,
            asked=self._config.coordination.candidates,
            partition_of={node: partition for partition, node in self._nodes.items()},
            shadow=shadow,
        )
        reports = tuple(answer.report for answer in answered)
        decision = self._coordinator.decide(server_round, reports)
        after = _average(answered, decision)
        if self._config.is_client_private:
            models = [answered[position].weights for position in decision.selected]
            after = privatise(self._config, server_round, self._global, models, decision.weights)
        shadow_decision, shadow_after = None, None
        if shadow:
            plain = [report.as_shadow() for report in reports]
            shadow_decision = self._coordinator.decide(server_round, plain)
            shadow_after = _shadow_average(answered, shadow_decision)
        for reply in replies:
            reply.content.clear()  # Flower holds a round's replies until the next round's are there
        self.outcome = RoundOutcome(
            reports=reports,
            decision=decision,
            shadow_decision=shadow_decision,
            before=self._global,
            after=after,
            shadow_after=shadow_after,
        )
        return exchange.to_arrays(after), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate centrally only."""
        del server_round, arrays, config, grid
        return []


def _average(answered: Sequence[Answer], decision: Coordination) -> Weights:
    models = [answered[position].weights for position in decision.selected]
    return weighted_mean(models, decision.weights.tolist())


def _shadow_average(answered: Sequence[Answer], decision: Coordination) -> Weights:
    models = []
    for position in decision.selected:
        weights = answered[position].shadow_weights
        if weights is None:
            raise RunError("a candidate sent no shadow weights")
        models.append(weights)
    return weighted_mean(models, decision.weights.tolist())
