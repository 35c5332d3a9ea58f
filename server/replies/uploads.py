"""The second phase of a probed round: the selected are asked for their weights.

What comes back passes the same boundary as every reply (`vetting.py`). Nobody is asked in
place of a client whose weights are not to be taken: the round goes on with the other selected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fnl.config import Config
from fnl.weights import Weights
from fnl.wire import exchange
from server.replies.arrays import content_bytes, parse_models
from server.replies.rejections import Rejection
from server.replies.vetting import one_from_each, packing_of, sent_to

UPLOAD = "upload: "
"""Begins the reason of a rejection in the second phase: the client's report was taken before."""


@dataclass(frozen=True)
class Uploads:
    """What the asked clients sent.

    Attributes:
        models: partition -> key of the arrays -> weights, of those that gave all they were asked.
        missing: partitions that were asked and whose weights were not taken.
        rejections: everything that was wrong, by partition.
        bytes_down: bytes of the requests.
        bytes_up: bytes of the replies that were taken.
    """

    models: Mapping[int, Mapping[str, Weights]]
    missing: frozenset[int]
    rejections: tuple[Rejection, ...]
    bytes_down: int
    bytes_up: int


def request_uploads(
    config: Config,
    grid: Grid,
    server_round: int,
    nodes: Mapping[int, int],
    wanted: Mapping[str, Sequence[int]],
    *,
    like: Weights,
) -> Uploads:
    """Ask for the updates that clients kept when they trained in `server_round`.

    Args:
        config: of the run.
        grid: the engine.
        server_round: the round they were trained in.
        nodes: partition -> node id.
        wanted: key of the arrays (`ARRAYS`, `SHADOW_ARRAYS`, `FLOOR_ARRAYS`) -> partitions.
        like: the global weights: names and shapes.
    """
    asked = sorted({partition for partitions in wanted.values() for partition in partitions})
    keys = {partition: [key for key in wanted if partition in wanted[key]] for partition in asked}
    requests = [_request(server_round, nodes[partition], keys[partition]) for partition in asked]
    partition_of = {nodes[partition]: partition for partition in asked}
    packing = packing_of(config, like)

    def parse(reply: Message, partition: int) -> tuple[dict[str, Weights], int]:
        models = parse_models(
            reply.content,
            keys[partition],
            like=like,
            max_update_norm=config.coordination.max_update_norm,
            packing=packing,
        )
        return models, content_bytes(reply.content)

    replies = list(grid.send_and_receive(requests, timeout=config.run.reply_timeout))
    messages = sent_to(requests)  # an engine gives ids as it sends
    taken, rejected = one_from_each(replies, partition_of, messages, parse)
    return Uploads(
        {partition: models for partition, (models, _) in taken.items()},
        missing=frozenset(asked) - taken.keys(),
        rejections=tuple(replace(found, reason=UPLOAD + found.reason) for found in rejected),
        bytes_down=sum(content_bytes(request.content) for request in requests),
        bytes_up=sum(size for _, size in taken.values()),
    )


def _request(server_round: int, node: int, keys: list[str]) -> Message:
    config = ConfigRecord({exchange.ROUND: server_round, exchange.WANTED: keys})
    return Message(RecordDict({exchange.CONFIG: config}), node, exchange.UPLOAD_TYPE)
