"""RateStrategy: Flower's FedAvg with rate-based selection and weighting in its hooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fnl import exchange
from fnl.config import Config
from fnl.errors import RunError
from fnl.exchange import ClientReport
from fnl.participation import candidates
from fnl.randomness import Purpose, stream
from fnl.weights import Weights, weighted_mean
from server.aggregation import AGGREGATION_RULES, normalised_weights
from server.selection import SELECTION_RULES, Scores, select


@dataclass(frozen=True)
class Coordination:
    """What a round's rules decided, over candidates in partition order.

    Attributes:
        scores: float64 [d].
        selected: positions of the selected candidates, best first, int64 [m].
        weights: share of each selected candidate, float64 [m].
    """

    scores: Scores
    selected: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class RoundOutcome:
    """One round of training as the server saw it.

    Attributes:
        reports: the candidates' reports in partition order.
        decision: scores, selection and weights.
        shadow_decision: the same from the candidates' non-private rates; None without shadows.
        before: global weights the round started from.
        after: global weights it ended with.
        shadow_after: global weights the shadow's updates would have given; None without.
    """

    reports: tuple[ClientReport, ...]
    decision: Coordination
    shadow_decision: Coordination | None
    before: Weights
    after: Weights
    shadow_after: Weights | None


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
        coordination = config.coordination
        super().__init__(
            min_train_nodes=coordination.candidates,
            min_available_nodes=config.data.clients,
            arrayrecord_key=exchange.ARRAYS,
            configrecord_key=exchange.CONFIG,
        )
        self.outcome: RoundOutcome | None = None
        self._config = config
        self._nodes = nodes
        self._global: Weights = {}
        self._selection = SELECTION_RULES[coordination.selection]
        self._aggregation = AGGREGATION_RULES[coordination.aggregation]

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
        answered = self._parse(server_round, list(replies))
        reports = tuple(report for report, _ in answered)
        decision = self._coordinate(server_round, reports)
        contents = [reply.content for _, reply in answered]
        after = _average(contents, exchange.ARRAYS, decision)
        shadow_decision, shadow_after = None, None
        if self._config.evaluation.shadow:
            shadow_decision = self._coordinate(server_round, [r.as_shadow() for r in reports])
            shadow_after = _average(contents, exchange.SHADOW_ARRAYS, shadow_decision)
        for content in contents:
            content.clear()  # Flower holds on to a round's replies until the next round's are there
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

    def _parse(
        self, server_round: int, replies: list[Message]
    ) -> list[tuple[ClientReport, Message]]:
        partition_of = {node: partition for partition, node in self._nodes.items()}
        failures = [reply for reply in replies if reply.has_error()]
        expected = self._config.coordination.candidates
        if failures or len(replies) != expected:
            reasons = [
                f"partition {partition_of.get(reply.metadata.src_node_id)}: {reply.error.reason}"
                for reply in failures
            ]
            missing = expected - len(replies)
            raise RunError(
                f"round {server_round}: {len(failures)} of {expected} candidates failed, "
                f"{missing} did not answer" + "".join(f"; {reason}" for reason in reasons[:3])
            )
        answered = []
        for reply in replies:
            record = reply.content[exchange.METRICS]
            if not isinstance(record, MetricRecord):
                raise RunError(f"round {server_round}: a candidate sent no report")
            try:
                answered.append((ClientReport.from_record(record), reply))
            except RunError as error:
                partition = partition_of.get(reply.metadata.src_node_id)
                raise RunError(f"round {server_round}, partition {partition}: {error}") from None
        return sorted(answered, key=lambda pair: pair[0].partition)

    def _coordinate(self, server_round: int, reports: Iterable[ClientReport]) -> Coordination:
        reports = list(reports)
        scores, selected = select(
            reports,
            self._selection,
            self._config.coordination.selected,
            stream(self._config.run.seed, Purpose.SELECTION, server_round),
        )
        chosen = [reports[position] for position in selected]
        return Coordination(scores, selected, normalised_weights(chosen, self._aggregation))


def _average(contents: list[RecordDict], key: str, decision: Coordination) -> Weights:
    """Return the weighted mean of the selected candidates' weights under `key`."""
    models = []
    for position in decision.selected:
        arrays = contents[position].get(key)
        if not isinstance(arrays, ArrayRecord):
            raise RunError("a candidate sent no weights")
        models.append(exchange.from_arrays(arrays))
    return weighted_mean(models, decision.weights.tolist())
