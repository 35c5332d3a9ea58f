"""The round's work as a Flower app, of the parts that the product's own app is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import nn

from benchmarks.round_work import RoundWork, Scalar, examples, streams, train_in_order
from fnl.runtime.determinism import one_thread
from fnl.training.dp_sgd import train as train_privately
from fnl.weights import RunningMean, Weights, get_weights, set_weights, view_weights
from fnl.wire import exchange

APP = "benchmarks.round_app:app"
NUM_EXAMPLES = "num-examples"

app = ClientApp()


@lru_cache(maxsize=1)
def _work(items: tuple[tuple[str, Scalar], ...]) -> RoundWork:
    return RoundWork.from_flat(dict(items))


_network = lru_cache(maxsize=1)(RoundWork.network)


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Reply with the partition this node holds."""
    identity = MetricRecord({"partition-id": int(context.node_config["partition-id"])})
    return Message(RecordDict({exchange.METRICS: identity}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received weights on this client's examples."""
    work = _work(tuple(context.run_config.items()))
    partition = int(context.node_config["partition-id"])
    arrays, instructions = message.content[exchange.ARRAYS], message.content[exchange.CONFIG]
    if not isinstance(arrays, ArrayRecord) or not isinstance(instructions, ConfigRecord):
        raise TypeError("the server's message lacks its configuration or the global weights")
    network = _network(work)
    set_weights(network, exchange.from_arrays(arrays))
    with one_thread():
        train_client(network, work, partition, int(str(instructions[exchange.ROUND])))
    content = RecordDict(
        {
            exchange.ARRAYS: exchange.to_arrays(view_weights(network)),
            exchange.METRICS: MetricRecord({NUM_EXAMPLES: work.examples}),
        }
    )
    return Message(content, reply_to=message)


def train_client(network: nn.Module, work: RoundWork, partition: int, server_round: int) -> None:
    """Train `network` in place on one client's examples."""
    features, labels = examples(work)[partition]
    if not work.private:
        train_in_order(network, features, labels, work)
        return
    batches, noise = streams(work, partition, server_round)
    train_privately(
        network,
        features,
        labels,
        work.plan,
        batches=batches,
        mechanism=work.mechanism,
        noise=noise,
    )


class MeanStrategy(FedAvg):
    """Federated averaging over the clients that the work names."""

    def __init__(self, work: RoundWork, nodes: dict[int, int]) -> None:
        super().__init__(min_train_nodes=work.asked, min_available_nodes=work.clients)
        self._work = work
        self._nodes = nodes

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's clients."""
        del grid
        config[exchange.ROUND] = server_round
        record = RecordDict({exchange.ARRAYS: arrays, exchange.CONFIG: config})
        nodes = [self._nodes[partition] for partition in self._work.candidates(server_round)]
        return self._construct_messages(record, nodes, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the weights by numbers of examples.

        Raises:
            RuntimeError: if a client failed.
        """
        mean = RunningMean()
        for reply in replies:
            if reply.has_error():
                raise RuntimeError(f"round {server_round}: {reply.error.reason}")
            arrays = reply.content.pop(exchange.ARRAYS)
            if not isinstance(arrays, ArrayRecord):
                raise RuntimeError(f"round {server_round}: a client sent no weights")
            metrics = reply.content[exchange.METRICS]
            mean.add(exchange.from_arrays(arrays), float(metrics[NUM_EXAMPLES]))  # type: ignore[arg-type]  # a count
        return exchange.to_arrays(mean.mean()), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Evaluate nothing."""
        del server_round, arrays, config, grid
        return []


def serve(grid: Grid, work: RoundWork, rounds: int, on_round: Callable[[], None]) -> Weights:
    """Run the rounds on a grid and return the last global weights.

    Args:
        grid: with a node for every client.
        work: what a round is.
        rounds: how many.
        on_round: called before the first and after every round.
    """
    while len(list(grid.get_node_ids())) < work.clients:  # Flower's nodes come one by one
        time.sleep(0.1)
    queries = [
        Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)
        for node in grid.get_node_ids()
    ]
    nodes = {
        int(str(reply.content.metric_records[exchange.METRICS]["partition-id"])): (
            reply.metadata.src_node_id
        )
        for reply in grid.send_and_receive(queries)
    }

    def after_round(server_round: int, arrays: ArrayRecord) -> None:
        del server_round, arrays
        on_round()

    result = MeanStrategy(work, nodes).start(
        grid=grid,
        initial_arrays=exchange.to_arrays(get_weights(work.network())),
        num_rounds=rounds,
        evaluate_fn=after_round,
    )
    return exchange.from_arrays(result.arrays)
