"""The second phase of a probed round: the selected are asked for their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fnl import exchange
from fnl.errors import RunError
from fnl.weights import Weights
from server.traffic import content_bytes

UPLOAD_TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Uploads:
    """What the asked clients sent.

    Attributes:
        models: key of the arrays -> partition -> weights, for those that were asked for them.
        bytes_down: bytes of the requests.
        bytes_up: bytes of the replies.
    """

    models: Mapping[str, Mapping[int, Weights]]
    bytes_down: int
    bytes_up: int


def request_uploads(
    grid: Grid, server_round: int, nodes: Mapping[int, int], wanted: Mapping[str, Sequence[int]]
) -> Uploads:
    """Ask for the updates that clients kept when they trained in `server_round`.

    Args:
        grid: the engine.
        server_round: the round they were trained in.
        nodes: partition -> node id.
        wanted: key of the arrays (`ARRAYS`, `SHADOW_ARRAYS`, `FLOOR_ARRAYS`) -> partitions.

    Raises:
        RunError: if a client failed, did not answer or sent something else.
    """
    asked = sorted({partition for partitions in wanted.values() for partition in partitions})
    requests = [
        _request(server_round, nodes[partition], [k for k in wanted if partition in wanted[k]])
        for partition in asked
    ]
    replies = list(grid.send_and_receive(requests, timeout=UPLOAD_TIMEOUT_SECONDS))
    by_node = {reply.metadata.src_node_id: reply for reply in replies}
    for partition in asked:
        reply = by_node.get(nodes[partition])
        if reply is None or reply.has_error():
            reason = "no answer" if reply is None else reply.error.reason
            raise RunError(
                f"round {server_round}: partition {partition} was selected and did not upload its "
                f"weights: {reason}"
            )
    received = {
        key: {p: _arrays(by_node[nodes[p]], key, server_round, p) for p in partitions}
        for key, partitions in wanted.items()
    }
    return Uploads(received, content_bytes(requests), content_bytes(replies))


def _request(server_round: int, node: int, keys: list[str]) -> Message:
    config = ConfigRecord({exchange.ROUND: server_round, exchange.WANTED: keys})
    return Message(RecordDict({exchange.CONFIG: config}), node, exchange.UPLOAD_TYPE)


def _arrays(reply: Message, key: str, server_round: int, partition: int) -> Weights:
    arrays = reply.content.get(key)
    if not isinstance(arrays, ArrayRecord):
        raise RunError(f"round {server_round}: partition {partition} uploaded no {key}")
    return exchange.from_arrays(arrays)
