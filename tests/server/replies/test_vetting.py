"""What is wrong with replies is told in the same order whoever was faster."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict

from fnl.errors import RunError
from fnl.wire.report import ClientReport
from server.replies.vetting import Expected, Shape, one_from_each, sent_to, vet

NODES = {11: 0, 12: 1, 13: 2}


def _failed(node: int) -> Message:
    asked = Message(RecordDict(), dst_node_id=node, message_type="train")
    return Message(Error(code=0, reason=f"of node {node}"), reply_to=asked)


@pytest.mark.usefixtures("flower_identity")
def test_rejections_come_by_partition_and_strangers_last():
    expected = Expected(
        partition_of=NODES,
        messages={},
        like={},
        models=(),
        entries=frozenset(),
        shape=Shape(1, 2),
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


def _asked(node: int) -> Message:
    message = Message(RecordDict(), dst_node_id=node, message_type="train")
    message.metadata.__dict__["_message_id"] = f"to {node}"
    return message


@pytest.mark.usefixtures("flower_identity")
def test_who_answers_in_anothers_name_does_not_speak_for_it():
    asked = [_asked(node) for node in NODES]
    honest = [Message(RecordDict(), reply_to=message) for message in asked]
    forged = Message(RecordDict(), reply_to=asked[2])
    forged.metadata.__dict__["_src_node_id"] = 11
    taken, rejected = one_from_each(
        [forged, *honest], NODES, sent_to(asked), lambda reply, _: reply
    )
    assert [taken[partition] for partition in range(3)] == honest
    (one,) = rejected
    assert (one.partition, one.kind.value) == (None, "stranger")
    assert "in the name of partition 0" in one.reason


@pytest.mark.usefixtures("flower_identity")
def test_a_flood_of_replies_is_told_in_a_few_rows():
    asked = [_asked(node) for node in NODES]
    honest = [Message(RecordDict(), reply_to=message) for message in asked]
    stranger = Message(RecordDict(), reply_to=_asked(99))
    replies = [*honest, *[honest[0]] * 5000, *[stranger] * 1000]
    taken, rejected = one_from_each(replies, NODES, sent_to(asked), lambda *_: None)
    assert len(taken) == 3
    assert len(rejected) <= 20
    assert any("4995 more" in one.reason for one in rejected)
    assert any("995 more" in one.reason for one in rejected if one.partition is None)


def test_of_several_unknown_fields_the_first_in_order_is_named():
    for names in (["b", "a", "c"], ["c", "b", "a"]):
        with pytest.raises(RunError, match="unknown field 'a'"):
            ClientReport.from_record(MetricRecord(dict.fromkeys(names, 1.0)))
