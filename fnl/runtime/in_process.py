"""The in-process engine: the same ServerApp and ClientApp, no Ray, no SuperLink.

`InProcessGrid` is a Flower grid that hands messages straight to the ClientApp: in this process
with one worker, else to a pool of worker processes. Results do not depend on the number of
workers, as every random decision comes from a named stream and clients compute with one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run

from fnl.config import Config
from fnl.runtime.events import Event
from fnl.runtime.flower_app import CLIENT, SERVER
from fnl.runtime.worker_pool import (
    RUN_ID,
    SERVER_NODE,
    WorkerPool,
    compute_here,
    load,
    start_process,
)
from fnl.training.batched.choice import clients_at_once
from fnl.wire import exchange


class InProcessGrid(Grid):
    """A Flower grid over clients that live in this process or in its workers.

    Node `partition + 2` holds `partition` (node 1 is the server, as in Flower). A client's context
    is made when it is first asked and kept here between its messages.

    Args:
        client_app: import path of the ClientApp, "module:attribute".
        clients: number of clients.
        run_config: the flat run configuration that every client sees.
        workers: processes that compute; 1 computes here.
        interruptible: compute in a process of its own even with one worker, as here a client that
            hangs cannot be stopped.
        at_once: clients that one process trains as one batch, at most.
        on_send: called with every message to a client, before it computes.
        on_reply: called after every reply, for progress.
        notify: called with every event of the run.

    Attributes:
        clients_apart: whether clients compute in other processes.
        nodes: partition -> node id.
    """

    def __init__(
        self,
        client_app: str,
        *,
        clients: int,
        run_config: Mapping[str, bool | int | float | str],
        workers: int = 1,
        interruptible: bool = False,
        at_once: int = 1,
        on_send: Callable[[Message], None] = lambda _: None,
        on_reply: Callable[[Message], None] = lambda _: None,
        notify: Callable[[Event], None] = print,
    ) -> None:
        self.notify = notify
        self._client_app = client_app
        self._clients = clients
        first = SERVER_NODE + 1
        self.nodes = dict(enumerate(range(first, first + clients)))
        self._run_config = dict(run_config)
        self._on_send = on_send
        self._on_reply = on_reply
        self._states: dict[int, RecordDict] = {}
        self._waiting: set[int] = set()
        self._replies: dict[str, Message] = {}
        self._sent = 0
        self._run = Run.create_empty(run_id=RUN_ID)
        self._workers, self._at_once = workers, at_once
        self._together = f"{client_app.partition(':')[0]}:train_together" if at_once > 1 else ""
        apart = workers > 1 or interruptible
        self._pool = WorkerPool(workers, client_app, self._together) if apart else None
        self.clients_apart = self._pool is not None
        start_process()

    def close(self) -> None:
        """Stop the workers; messages not yet computed are dropped."""
        if self._pool is not None:
            self._pool.close()

    def set_run(self, run: Run) -> None:
        """Set the run this grid operates in."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid operates in."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return self.nodes.values()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Compute the replies to `messages` and keep them; returns the messages' ids."""
        ids = []
        for reply in self._exchange(list(messages), None):
            identifier = reply.metadata.reply_to_message_id
            self._replies[identifier] = reply
            ids.append(identifier)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies kept for `message_ids`, each once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Yield the replies to `messages` in the messages' order, each as soon as it is there.

        With one worker a client computes when its reply is asked for, so that a strategy which
        averages as it goes holds one model at a time. With worker processes those that have not
        answered in `timeout` seconds are given up.
        """
        return self._exchange(list(messages), timeout)

    def _exchange(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        if any(message.metadata.message_type == MessageType.TRAIN for message in messages):
            self._drop_what_waits()
        for message in messages:
            self._sent += 1
            message.metadata.__dict__["_message_id"] = str(self._sent)
            self._on_send(message)
        batches = ([(m, self._context(m)) for m in batch] for batch in self._batches(messages))
        if self._pool is not None:
            computed = self._pool.compute(list(batches), timeout)
        else:
            computed = compute_here(self._client_app, self._together, batches)
        for message, (reply, state) in computed:
            yield self._keep(message, reply, state)

    def _batches(self, messages: Sequence[Message]) -> list[Sequence[Message]]:
        """Return what is computed at once: of messages to train as much as there may be."""
        training = all(message.metadata.message_type == "train" for message in messages)
        share = -(-len(messages) // self._workers)  # every process gets some
        size = min(self._at_once, share) if training and messages else 1
        return [messages[start : start + size] for start in range(0, len(messages), size)]

    def _context(self, message: Message) -> Context:
        node = message.metadata.dst_node_id
        partition = node - SERVER_NODE - 1
        return Context(
            run_id=self._run.run_id,
            node_id=node,
            node_config={"partition-id": partition, "num-partitions": self._clients},
            state=self._states.get(node, RecordDict()),
            run_config=self._run_config,
        )

    def _keep(self, message: Message, reply: Message, state: RecordDict) -> Message:
        node = message.metadata.dst_node_id
        if any(name.startswith(exchange.KEPT) for name in state):
            self._waiting.add(node)
        if state:
            self._states[node] = state
        else:
            self._states.pop(node, None)
        self._on_reply(reply)
        return reply

    def _drop_what_waits(self) -> None:
        """Forget updates that nobody asked for in their round: else each client keeps one."""
        for node in self._waiting & self._states.keys():
            state = self._states[node]
            for name in [name for name in state if name.startswith(exchange.KEPT)]:
                del state[name]
        self._waiting.clear()


def run_in_process(
    config: Config,
    *,
    client_app: str = CLIENT,
    workers: int = 1,
    interruptible: bool = False,
    on_send: Callable[[Message], None] = lambda _: None,
    on_reply: Callable[[Message], None] = lambda _: None,
    notify: Callable[[Event], None] = print,
) -> None:
    """Run the ServerApp against `data.clients` instances of a ClientApp in this process.

    Raises:
        FnlError: whatever stopped the run, as the ServerApp raised it.
    """
    grid = InProcessGrid(
        client_app,
        clients=config.data.clients,
        run_config=config.flat(),
        workers=workers,
        interruptible=interruptible,
        at_once=clients_at_once(config),
        on_send=on_send,
        on_reply=on_reply,
        notify=notify,
    )
    context = Context(
        run_id=RUN_ID,
        node_id=SERVER_NODE,
        node_config={},
        state=RecordDict(),
        run_config=config.flat(),
    )
    try:
        app = load(SERVER)
        if not isinstance(app, ServerApp):
            raise TypeError(f"{SERVER} is not a Flower ServerApp")
        app(grid, context)
    finally:
        grid.close()
