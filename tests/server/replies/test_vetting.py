"""What is wrong with replies is told in the same order whoever was faster."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message, RecordDict

from server.replies.vetting import Expected, vet

NODES = {11: 0, 12: 1, 13: 2}


def _failed(node: int) -> Message:
    asked = Message(RecordDict(), dst_node_id=node, message_type="train")
    return Message(Error(code=0, reason=f"of node {node}"), reply_to=asked)


@pytest.mark.usefixtures("flower_identity")
def test_rejections_come_by_partition_and_strangers_last():
    expected = Expected(
        partition_of=NODES,
        messages=frozenset(),
        like={},
        models=(),
        entries=frozenset(),
        layers=1,
        classes=2,
        epsilons={},
        max_update_norm=0.0,
    )
    taken, rejected = vet([_failed(99), _failed(13), _failed(11)], expected)
    assert not taken
    assert [(found.partition, found.kind.value) for found in rejected] == [
        (0, "crashed"),
        (1, "no-answer"),
        (2, "crashed"),
        (None, "stranger"),
    ]
