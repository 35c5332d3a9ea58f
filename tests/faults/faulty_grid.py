"""The in-process engine on a bad day: replies go wrong by a seeded schedule."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import ServerApp

from fnl.runtime.in_process import InProcessGrid
from fnl.runtime.worker_pool import RUN_ID, SERVER_NODE
from fnl.wire import exchange
from server.app import app
from server.replies.uploads import UPLOAD
from tests.faults.injection import CONTENT, FORGED, Schedule, corrupt, refusal

_PHASES = (MessageType.TRAIN, exchange.UPLOAD_TYPE)

Flat = dict[str, bool | int | float | str]


class FaultyGrid(InProcessGrid):
    """Does to training messages, to requests for uploads and to replies what `schedule` says.

    Attributes:
        injected: (round, partition, kind) of every fault so far; of an upload "upload: " and kind.
    """

    def __init__(self, schedule: Schedule, **options: Any) -> None:
        super().__init__("clients.app:app", **options)
        self.injected: list[tuple[int, int, str]] = []
        self._schedule = schedule

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Yield what comes back."""
        messages = list(messages)
        if not messages or messages[0].metadata.message_type not in _PHASES:
            return super().send_and_receive(messages, timeout=timeout)
        return self._faulty(messages, timeout)

    def _faulty(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        faults = [self._fault(message) for message in messages]
        unsent = ("crash before training", "disconnected", "refusal")
        sent = [m for m, kind in zip(messages, faults, strict=True) if kind not in unsent]
        replies = iter(super().send_and_receive(sent, timeout=timeout))
        for message, kind in zip(messages, faults, strict=True):
            partition = message.metadata.dst_node_id - SERVER_NODE - 1
            if kind in unsent:
                message.metadata.__dict__["_message_id"] = f"unsent {id(message)}"
                if kind == "crash before training":
                    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "OSError: no microphone")
                    yield Message(error, reply_to=message)
                if kind == "refusal":
                    yield Message(refusal(), reply_to=message)
                continue
            reply = next(replies)
            yield from self._after(kind, partition, reply)

    def _after(self, kind: str | None, partition: int, reply: Message) -> Iterator[Message]:
        if kind in CONTENT or kind in FORGED:
            yield corrupt(kind, reply)
            return
        if kind == "lost on the way back":
            return
        if kind == "stranger":
            yield Message(RecordDict(), reply_to=_message_to(999))
        if kind == "late":
            yield Message(RecordDict(), reply_to=_message_to(partition + SERVER_NODE + 1))
        yield reply
        if kind == "twice":
            yield reply

    def _fault(self, message: Message) -> str | None:
        config = message.content[exchange.CONFIG]
        assert isinstance(config, ConfigRecord)
        server_round = int(config[exchange.ROUND])  # type: ignore[arg-type]
        partition = message.metadata.dst_node_id - SERVER_NODE - 1
        if message.metadata.message_type == exchange.UPLOAD_TYPE:
            kind, phase = self._schedule.upload_fault(server_round, partition), UPLOAD
        else:
            kind, phase = self._schedule.fault(server_round, partition), ""
        if kind is not None:
            self.injected.append((server_round, partition, phase + kind))
        return kind


def _message_to(node: int) -> Message:
    """Return a message that this round's server did not send."""
    message = Message(RecordDict(), node, MessageType.TRAIN)
    message.metadata.__dict__["_message_id"] = "of another round"
    return message


def run_with_faults(flat: Flat, schedule: Schedule) -> FaultyGrid:
    """Run the federation of `flat` under `schedule`, or go on with it."""
    grid = FaultyGrid(
        schedule, clients=int(flat["data.clients"]), run_config=flat, notify=lambda _: None
    )
    context = Context(
        run_id=RUN_ID, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config=flat
    )
    assert isinstance(app, ServerApp)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:
        app(grid, context)
    finally:
        grid.close()
    return grid
