"""Worker processes that compute clients' replies, and that outlive a client that hangs or dies."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import multiprocessing.util
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from fnl.child_processes import without_script
from fnl.own_packages import ROOT
from fnl.runtime.memory import keep_freed_memory

_logger = logging.getLogger(__name__)

CLOSING_SECONDS = 3.0
"""That workers have to end by themselves."""
LONGEST_TEMPORARY = 60
"""Characters of a temporary folder that leave room for the names of sockets in it."""

SERVER_NODE = 1
RUN_ID = 1

Computed = tuple[Message, RecordDict]
"""A client's reply, and what it keeps for its next message."""

Task = tuple[Message, Context]
"""A message to a client, and what the client knows."""


class WorkerPool:
    """Processes that each hold the ClientApp.

    Args:
        workers: number of processes.
        client_app: import path of the ClientApp, "module:attribute".
        together: import path of what answers several messages at once; empty: nothing does.
    """

    def __init__(self, workers: int, client_app: str, together: str = "") -> None:
        self._workers = workers
        self._client_app = client_app
        self._together = together
        self._pool = self._start()

    def compute(
        self, batches: Sequence[Sequence[Task]], timeout: float | None
    ) -> Iterator[tuple[Message, Computed]]:
        """Yield each message with what came of it, in order; a batch is computed by one process.

        A client that takes longer than `timeout` seconds, counted from when the processes have
        started, is left out and its process ended. One whose process dies has an error for a reply.
        """
        wait(self._loading)  # a start that takes long is no client's fault
        deadline = None if timeout is None else time.monotonic() + timeout
        submitted = [(batch, self._submit(batch)) for batch in batches]
        late, broken = False, False
        for batch, future in submitted:
            messages = [message for message, _ in batch]
            alone: Sequence[Task] = batch if broken else ()
            try:
                if not broken:
                    yield from zip(messages, future.result(_left(deadline)), strict=True)
            except BrokenProcessPool:
                # whose process died is not to be told: what is left runs one by one
                broken, alone = True, batch
                self._restart()
            except TimeoutError:
                late = True
            for task in alone:
                try:
                    yield task[0], self._alone(task, deadline)
                except TimeoutError:
                    self._restart()
        if late and not broken:
            self._restart()

    def close(self) -> None:
        """Stop the workers, those that still compute by force; what they compute is dropped."""
        _end(self._pool, CLOSING_SECONDS)

    def _submit(self, batch: Sequence[Task]) -> Future[list[Computed]]:
        arguments = self._client_app, self._together, batch
        try:
            return self._pool.submit(compute_batch, *arguments)
        except BrokenProcessPool:  # an idle worker was killed
            self._restart()
            return self._pool.submit(compute_batch, *arguments)

    def _alone(self, task: Task, deadline: float | None) -> Computed:
        message, context = task
        try:
            return self._submit([task]).result(_left(deadline))[0]
        except BrokenProcessPool:
            self._restart()
            reason = "its process died (out of memory, or killed): fewer workers need less"
            failure = Error(ErrorCode.CLIENT_APP_CRASHED, reason)
            return Message(failure, reply_to=message), context.state

    def _restart(self) -> None:
        _end(self._pool, 0.0)
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # forkserver: workers never inherit this process' threads, and import the ClientApp once
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["fnl", self._client_app.partition(":")[0]])
        with birth():
            pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_start_worker)
            # now, beside the server's own imports
            self._loading = [pool.submit(_preload, self._client_app) for _ in range(self._workers)]
        return pool


@contextmanager
def birth() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, that import ours, whose sockets have short names.

    A worker that is interrupted while it sends its reply leaves the pool waiting for the rest for
    good: the run's own process ends its workers. A file `clients.py` in the working directory is
    not this project's `clients`, and a socket's path may have some hundred characters.
    """
    _short_sockets()
    known = os.environ.get("PYTHONPATH", "")
    ours = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, known)))}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with without_script():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _short_sockets() -> None:
    """Choose where this process' sockets lie, before anything else does, if TMPDIR is too long."""
    if len(tempfile.gettempdir()) > LONGEST_TEMPORARY and Path("/tmp").is_dir():  # noqa: S108 short
        chosen, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108
        try:
            multiprocessing.util.get_temp_dir()  # it is kept from now on
        finally:
            tempfile.tempdir = chosen


def _end(pool: ProcessPoolExecutor, patience: float) -> None:
    """Shut a pool down, in `patience` seconds or by force, and never wait for what cannot come."""
    # the pool itself has no way to end a task that runs, and forgets what follows when it is told
    manager = getattr(pool, "_executor_manager_thread", None)
    processes = list((getattr(pool, "_processes", None) or {}).values())
    results = getattr(pool, "_result_queue", None)
    pool.shutdown(wait=False, cancel_futures=True)
    if manager is None:
        return
    if patience:
        manager.join(patience)
    for process in processes:
        if process.is_alive():
            process.kill()
    manager.join(CLOSING_SECONDS)
    if manager.is_alive() and results is not None:
        # a worker died in the middle of a reply: let its reader see that there is no more
        results._writer.close()
        manager.join(CLOSING_SECONDS)


def compute(client_app: str, message: Message, context: Context) -> Computed:
    """Return the ClientApp's reply and the client's state; an exception becomes an error reply."""
    app = load(client_app)
    if not isinstance(app, ClientApp):
        raise TypeError(f"{client_app} is not a Flower ClientApp")
    try:
        return app(message, context), context.state
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        return Message(failure, reply_to=message), context.state


def compute_batch(client_app: str, together: str, batch: Sequence[Task]) -> list[Computed]:
    """Return what `compute` does of each task, of several by `together` if there is such a thing.

    Should that fail, each is computed by itself, and says what is wrong with it.
    """
    if len(batch) > 1 and together:
        answer: Any = load(together)
        messages, contexts = [message for message, _ in batch], [context for _, context in batch]
        try:
            return [
                (reply, context.state)
                for reply, context in zip(answer(messages, contexts), contexts, strict=True)
            ]
        except Exception:
            _logger.warning("clients fail as one batch, and are computed one by one", exc_info=True)
    return [compute(client_app, *task) for task in batch]


def compute_here(
    client_app: str, together: str, batches: Iterable[Sequence[Task]]
) -> Iterator[tuple[Message, Computed]]:
    """Yield what `WorkerPool.compute` does, computed in this process: a batch when it is needed."""
    for batch in batches:
        messages = [message for message, _ in batch]
        yield from zip(messages, compute_batch(client_app, together, batch), strict=True)


@lru_cache(maxsize=8)
def load(path: str) -> object:
    """Return the object "module:attribute"."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _preload(path: str) -> None:
    """Do `load`, and return nothing: the pool's thread would import what it takes to have it here.

    Two threads that import a package and a part of it at once can stop each other.
    """
    load(path)


def start_process() -> None:
    """Make this process one that computes clients."""
    keep_freed_memory()
    # tell Flower who is sending: it refuses to build a message without
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = SERVER_NODE
    TaskIdentity.task_id = 1


def _start_worker() -> None:
    start_process()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the run is killed: nobody would tell it otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
