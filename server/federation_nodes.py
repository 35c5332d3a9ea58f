"""Which node is which client: asked once, at the start of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

import fnl
from fnl.errors import ConfigError, DeviceError, RunError
from fnl.runtime.deployment import IDENTITY, IS_DEVICE, VERSION, check_version
from fnl.runtime.engine import Hosting
from fnl.wire import exchange

CONNECT_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class _Identity:
    """What a node says of itself; `partitions` is 0 from a device, which knows of itself only."""

    partition: int
    partitions: int
    is_device: bool


def nodes_by_partition(grid: Grid, clients: int, *, devices: bool = False) -> dict[int, int]:
    """Return partition -> node id for all clients.

    Node ids are random and change between runs; the partition is a client's stable identity. Nodes
    are asked, but for those of an engine that hosts clients itself: it has numbered them.

    Args:
        grid: the engine's.
        clients: how many there must be.
        devices: whether all of them must be devices with clips of their own: in a deployment.

    Raises:
        ConfigError: if the engine was started with another number of nodes.
        RunError: if nodes do not connect, do not answer, or are not the clients 0 to N - 1.
    """
    if isinstance(grid, Hosting):
        return dict(grid.nodes)
    if not devices:
        first = _wait_for_nodes(grid, 1)[0]
        announced = _identify(grid, [first])[first].partitions
        if announced != clients:
            raise ConfigError(
                f"num-supernodes is {announced} but data.clients is {clients}: start with "
                f"--federation-config num-supernodes={clients} or set data.clients={announced}"
            )
    nodes = _wait_for_nodes(grid, clients)
    identities = _identify(grid, nodes)
    if devices:
        _check_devices(identities, clients)
    by_partition = {identity.partition: node for node, identity in identities.items()}
    if sorted(by_partition) != list(range(clients)):
        raise RunError(
            f"{len(by_partition)} distinct partitions answered, expected 0 to {clients - 1}"
        )
    return by_partition


def _check_devices(identities: Mapping[int, _Identity], clients: int) -> None:
    """Refuse nodes of a deployment that are no devices, or not one for every client."""
    for node, identity in identities.items():
        if not identity.is_device:
            raise RunError(
                f"node {node} has no clips of its own: start its SuperNode with data-root and "
                "state-dir in --node-config, as deploy/device.sh does"
            )
    held = sorted(identity.partition for identity in identities.values())
    if held != list(range(clients)):
        raise RunError(
            f"the devices hold the partitions {', '.join(map(str, held))}, data.clients = "
            f"{clients} needs each of 0 to {clients - 1} once: correct partition-id of the devices"
        )


def _wait_for_nodes(grid: Grid, count: int) -> list[int]:
    deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
    while len(nodes := sorted(grid.get_node_ids())) < count:
        if time.monotonic() > deadline:
            raise RunError(
                f"{len(nodes)} of {count} nodes connected in {CONNECT_TIMEOUT_SECONDS} s"
            )
        time.sleep(0.1)
    return nodes


def _identify(grid: Grid, nodes: Sequence[int]) -> dict[int, _Identity]:
    asked = RecordDict({IDENTITY: ConfigRecord({VERSION: fnl.__version__})})
    messages = [Message(asked, dst_node_id=node, message_type=MessageType.QUERY) for node in nodes]
    identities: dict[int, _Identity] = {}
    for reply in grid.send_and_receive(messages, timeout=CONNECT_TIMEOUT_SECONDS):
        if reply.has_error():
            raise RunError(f"a node did not say which partition it holds: {reply.error.reason}")
        identities[reply.metadata.src_node_id] = _parse(reply.content)
    if len(identities) != len(nodes):
        raise RunError(f"{len(identities)} of {len(nodes)} nodes said which partition they hold")
    return identities


def _parse(content: RecordDict) -> _Identity:
    numbers, who = content.get(exchange.METRICS), content.get(IDENTITY)
    if not isinstance(numbers, MetricRecord) or not isinstance(who, ConfigRecord):
        raise RunError("a node answered without its partition")
    partition, partitions = numbers.get("partition-id"), numbers.get("num-partitions")
    if not isinstance(partition, int) or not isinstance(partitions, int):
        raise RunError(f"a node holds the partition {partition!r} of {partitions!r}: not numbers")
    try:
        check_version(who.get(VERSION), f"the node of partition {partition}")
    except DeviceError as error:
        raise RunError(str(error)) from None
    return _Identity(partition, partitions, who.get(IS_DEVICE) is True)
