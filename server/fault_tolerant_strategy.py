"""Rounds as they are in the world: runs stop and go on, replies are lost or wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fnl.config import Config
from fnl.wire import exchange
from server.replies.rejections import Rejection, by_partition, require_enough
from server.replies.vetting import Expected, vet
from server.spending import Spending
from server.strategy import RateStrategy


class GuardedStrategy(Strategy):
    """Lets a strategy see only replies that can be taken, and rounds that are really to be done.

    Flower's round numbers begin at 1; here they go on behind the rounds that are done. In a
    simulation each client is told in which rounds it has spent: its own ledger is gone with a
    process that was killed.

    Attributes:
        rejections: what was wrong in the last round.
        done: rounds that were done before this start.
        spending: what the server knows of the clients' budgets.

    Args:
        inner: the strategy.
        config: of the run.
        done: rounds that are done.
        nodes: partition -> node id.
        layers: number of spiking layers.
        classes: number of labels.
        spending: what the server knows of the clients' budgets.
        simulated: whether clients live in a simulation; on real devices a client's own ledger is
            on its disk, and nobody else's word counts.
    """

    def __init__(
        self,
        inner: RateStrategy,
        config: Config,
        *,
        done: int,
        nodes: Mapping[int, int],
        layers: int,
        classes: int,
        spending: Spending,
        simulated: bool,
    ) -> None:
        self.rejections: Sequence[Rejection] = ()
        self._inner = inner
        self._config = config
        self.done = done
        self.spending = spending
        self._partition_of = {node: partition for partition, node in nodes.items()}
        self._layers = layers
        self._classes = classes
        self._simulated = simulated
        self._asked: list[Message] = []
        self._arrays = ArrayRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the candidates of the round that this really is."""
        messages = self._inner.configure_train(server_round + self.done, arrays, config, grid)
        self._arrays = arrays
        self._asked = [self._with_spent_rounds(message) for message in messages]
        return self._asked

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Select and average what can be taken.

        Raises:
            RunError: if too few candidates gave a usable answer, or a rule failed.
        """
        taken, self.rejections = vet(list(replies), self._expected())
        settings = self._config.coordination
        require_enough(settings, server_round + self.done, len(taken), self.rejections)
        self._asked = []
        aggregated = self._inner.aggregate_train(server_round + self.done, taken)
        if (outcome := self._inner.outcome) is not None and outcome.rejections:
            self.rejections = sorted([*self.rejections, *outcome.rejections], key=by_partition)
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate as the strategy does."""
        return self._inner.configure_evaluate(server_round + self.done, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Evaluate as the strategy does."""
        return self._inner.aggregate_evaluate(server_round + self.done, replies)

    def summary(self) -> None:
        """Log what the strategy is."""
        self._inner.summary()

    def _expected(self) -> Expected:
        config = self._config
        nodes = {message.metadata.dst_node_id for message in self._asked}
        return Expected(
            partition_of={node: self._partition_of[node] for node in nodes},
            messages=frozenset(message.metadata.message_id for message in self._asked) - {""},
            like=exchange.from_arrays(self._arrays),
            required=_required(config),
            layers=self._layers,
            classes=self._classes,
            private=config.is_private,
            epsilons=self.spending.reported,
            max_update_norm=config.coordination.max_update_norm,
            accountant=config.privacy.accountant,
        )

    def _with_spent_rounds(self, message: Message) -> Message:
        partition = self._partition_of[message.metadata.dst_node_id]
        spent, bound = self.spending.rounds(partition), self.spending.clip_norm(partition)
        config = message.content[exchange.CONFIG]
        if not self._simulated or not spent or not isinstance(config, ConfigRecord):
            return message
        content = RecordDict(dict(message.content))
        told = ConfigRecord({**config, exchange.SPENT_ROUNDS: list(spent)})
        if bound is not None:
            told[exchange.CLIP_NORM] = bound
        content[exchange.CONFIG] = told
        message.content = content  # candidates share one content, and these rounds are this one's
        return message


def _required(config: Config) -> tuple[str, ...]:
    """Return the arrays that every answer must carry."""
    if config.coordination.probe:  # the selected are asked for them later
        return ()
    shadow = (exchange.SHADOW_ARRAYS,) if config.evaluation.shadow else ()
    floor = (exchange.FLOOR_ARRAYS,) if config.evaluation.floor else ()
    return (exchange.ARRAYS, *shadow, *floor)
