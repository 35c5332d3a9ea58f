"""The in-process engine: the same ServerApp and ClientApp, no Ray, no SuperLink.

`InProcessGrid` is a Flower grid that hands messages straight to the ClientApp: in this process
with one worker, else to a pool of worker processes. Results do not depend on the number of
workers, as every random decision comes from a named stream and clients compute with one thread.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fnl.errors import RunError
from fnl.runtime.memory import keep_freed_memory

SERVER_NODE = 1
RUN_ID = 1


class InProcessGrid(Grid):
    """A Flower grid over clients that live in this process or in its workers.

    Node `partition + 2` holds `partition` (node 1 is the server, as in Flower). A client's context
    is made when it is first asked and kept here between its messages.

    Args:
        client_app: import path of the ClientApp, "module:attribute".
        clients: number of clients.
        run_config: the flat run configuration that every client sees.
        workers: processes that compute; 1 computes here.
        on_reply: called after every reply, for progress.
        notify: shows a message to the user.
    """

    def __init__(
        self,
        client_app: str,
        *,
        clients: int,
        run_config: Mapping[str, bool | int | float | str],
        workers: int = 1,
        on_reply: Callable[[Message], None] = lambda _: None,
        notify: Callable[[str], None] = print,
    ) -> None:
        self.notify = notify
        self._client_app = client_app
        self._clients = clients
        self._run_config = dict(run_config)
        self._on_reply = on_reply
        self._states: dict[int, RecordDict] = {}
        self._replies: dict[str, Message] = {}
        self._sent = 0
        self._run = Run.create_empty(run_id=RUN_ID)
        self._pool = _start_pool(workers, client_app) if workers > 1 else None
        _start_process()

    def close(self) -> None:
        """Stop the workers; messages not yet computed are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

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
        return range(SERVER_NODE + 1, SERVER_NODE + 1 + self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Compute the replies to `messages` and keep them; returns the messages' ids."""
        ids = []
        for reply in self._exchange(list(messages)):
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
        averages as it goes holds one model at a time.
        """
        del timeout  # the clients are here: they answer or fail, they do not get lost
        return self._exchange(list(messages))

    def _exchange(self, messages: list[Message]) -> Iterator[Message]:
        for message in messages:
            self._sent += 1
            message.metadata.__dict__["_message_id"] = str(self._sent)
        if self._pool is None:
            for message in messages:
                yield self._keep(
                    message, *_compute(self._client_app, message, self._context(message))
                )
            return
        yield from self._exchange_with_pool(self._pool, messages)

    def _exchange_with_pool(
        self, pool: ProcessPoolExecutor, messages: list[Message]
    ) -> Iterator[Message]:
        try:
            futures = deque(
                pool.submit(_compute, self._client_app, message, self._context(message))
                for message in messages
            )
            for message in messages:
                yield self._keep(message, *futures.popleft().result())
        except BrokenProcessPool:
            raise RunError(
                "a worker process died (out of memory, or killed): use fewer workers"
            ) from None

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
        if state:
            self._states[message.metadata.dst_node_id] = state
        else:
            self._states.pop(message.metadata.dst_node_id, None)
        self._on_reply(reply)
        return reply


def run_in_process(
    server_app: str,
    client_app: str,
    *,
    clients: int,
    run_config: Mapping[str, bool | int | float | str],
    workers: int = 1,
    on_reply: Callable[[Message], None] = lambda _: None,
    notify: Callable[[str], None] = print,
) -> None:
    """Run a ServerApp against `clients` instances of a ClientApp in this process.

    Raises:
        FnlError: whatever stopped the run, as the ServerApp raised it.
    """
    grid = InProcessGrid(
        client_app,
        clients=clients,
        run_config=run_config,
        workers=workers,
        on_reply=on_reply,
        notify=notify,
    )
    context = Context(
        run_id=RUN_ID,
        node_id=SERVER_NODE,
        node_config={},
        state=RecordDict(),
        run_config=dict(run_config),
    )
    try:
        app = _load(server_app)
        if not isinstance(app, ServerApp):
            raise TypeError(f"{server_app} is not a Flower ServerApp")
        app(grid, context)
    finally:
        grid.close()


def _start_pool(workers: int, client_app: str) -> ProcessPoolExecutor:
    # forkserver: workers never inherit this process' threads, and import the ClientApp once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([client_app.partition(":")[0]])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_process)
    for _ in range(workers):
        pool.submit(_load, client_app)  # workers start now, beside the server's own imports
    return pool


def _start_process() -> None:
    keep_freed_memory()
    _identify_process()


def _identify_process() -> None:
    """Tell Flower who is sending: it refuses to build a message without."""
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = SERVER_NODE
    TaskIdentity.task_id = 1


def _compute(client_app: str, message: Message, context: Context) -> tuple[Message, RecordDict]:
    """Return the ClientApp's reply and the client's state; an exception becomes an error reply."""
    app = _load(client_app)
    if not isinstance(app, ClientApp):
        raise TypeError(f"{client_app} is not a Flower ClientApp")
    try:
        return app(message, context), context.state
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        return Message(failure, reply_to=message), context.state


@lru_cache(maxsize=8)
def _load(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
