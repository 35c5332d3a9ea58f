"""Which node is which client: asked once, at the start of a run."""

from __future__ import annotations

import time

from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fnl import exchange
from fnl.errors import ConfigError, RunError

CONNECT_TIMEOUT_SECONDS = 120.0


def nodes_by_partition(grid: Grid, clients: int) -> dict[int, int]:
    """Return partition -> node id for all clients.

    Node ids are random and change between runs; the partition is a client's stable identity.

    Raises:
        ConfigError: if the engine was started with another number of nodes.
        RunError: if nodes do not connect or do not answer.
    """
    first = _wait_for_nodes(grid, 1)[0]
    announced = _identify(grid, [first])[first]["num-partitions"]
    if announced != clients:
        raise ConfigError(
            f"num-supernodes is {announced} but data.clients is {clients}: start with "
            f"--federation-config num-supernodes={clients} or set data.clients={announced}"
        )
    nodes = _wait_for_nodes(grid, clients)
    identities = _identify(grid, nodes)
    by_partition = {int(identity["partition-id"]): node for node, identity in identities.items()}
    if sorted(by_partition) != list(range(clients)):
        raise RunError(
            f"{len(by_partition)} distinct partitions answered, expected 0 to {clients - 1}"
        )
    return by_partition


def _wait_for_nodes(grid: Grid, count: int) -> list[int]:
    deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
    while len(nodes := sorted(grid.get_node_ids())) < count:
        if time.monotonic() > deadline:
            raise RunError(
                f"{len(nodes)} of {count} nodes connected in {CONNECT_TIMEOUT_SECONDS} s"
            )
        time.sleep(0.1)
    return nodes


def _identify(grid: Grid, nodes: list[int]) -> dict[int, dict[str, int]]:
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in nodes
    ]
    identities: dict[int, dict[str, int]] = {}
    for reply in grid.send_and_receive(messages, timeout=CONNECT_TIMEOUT_SECONDS):
        if reply.has_error():
            raise RunError(f"a node did not say which partition it holds: {reply.error.reason}")
        record = reply.content[exchange.METRICS]
        if not isinstance(record, MetricRecord):
            raise RunError("a node answered without its partition")
        identities[reply.metadata.src_node_id] = {
            key: value for key, value in record.items() if isinstance(value, int)
        }
    if len(identities) != len(nodes):
        raise RunError(f"{len(identities)} of {len(nodes)} nodes said which partition they hold")
    return identities
