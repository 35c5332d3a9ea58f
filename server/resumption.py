"""Rounds that go on: a strategy that starts where a checkpoint ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fnl import exchange
from server.spending import Spending
from server.strategy import RateStrategy


class ResumedStrategy(Strategy):
    """Shifts Flower's round numbers, which begin at 1, behind the rounds that are done.

    In a simulation it also tells each client in which rounds it has spent: its own ledger is gone
    with the process that was killed.

    Args:
        inner: the strategy.
        done: rounds that are done.
        spending: what the server knows of the clients' budgets; None on real devices, where a
            client's own ledger is on its disk and nobody else's word counts.
        partition_of: node id -> partition.
    """

    def __init__(
        self,
        inner: RateStrategy,
        *,
        done: int,
        spending: Spending | None,
        partition_of: Mapping[int, int],
    ) -> None:
        self._inner = inner
        self._done = done
        self._spending = spending
        self._partition_of = partition_of

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the candidates of the round that this really is."""
        messages = self._inner.configure_train(server_round + self._done, arrays, config, grid)
        return [self._with_spent_rounds(message) for message in messages]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Select and average, as the round that this really is."""
        return self._inner.aggregate_train(server_round + self._done, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate as the strategy does."""
        return self._inner.configure_evaluate(server_round + self._done, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Evaluate as the strategy does."""
        return self._inner.aggregate_evaluate(server_round + self._done, replies)

    def summary(self) -> None:
        """Log what the strategy is."""
        self._inner.summary()

    def _with_spent_rounds(self, message: Message) -> Message:
        if self._spending is None:
            return message
        spent = self._spending.rounds(self._partition_of[message.metadata.dst_node_id])
        config = message.content[exchange.CONFIG]
        if not spent or not isinstance(config, ConfigRecord):
            return message
        content = RecordDict(dict(message.content))
        content[exchange.CONFIG] = ConfigRecord({**config, exchange.SPENT_ROUNDS: list(spent)})
        message.content = content  # candidates share one content, and these rounds are this one's
        return message
