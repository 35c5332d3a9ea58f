"""Work on clips by processes that are given a job once, and end with the process that asked."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

import torch

from fnl.child_processes import without_script
from fnl.errors import RunError

_Task = TypeVar("_Task")
_Made = TypeVar("_Made")


def each(
    job: Callable[[_Task], _Made], tasks: Sequence[_Task], processes: int
) -> Generator[tuple[_Task, _Made], None, None]:
    """Yield every task, in order, with what `job` makes of it; close it to stop the processes.

    Args:
        job: sent to every process once, by pickle.
        tasks: what it is called with.
        processes: up to 1: none but this one. They are fresh ones: a fork would inherit torch's
            threads in an unknown state.

    Raises:
        RunError: if a process dies.
    """
    if processes <= 1:
        for task in tasks:
            yield task, job(task)
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(pickle.dumps(job),),
    )
    try:
        with without_script():
            waiting = deque((task, pool.submit(_run_in_worker, task)) for task in tasks)
        while waiting:
            task, future = waiting.popleft()  # which then keeps no result
            yield task, future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a process that computes died, perhaps out of memory: fewer workers need less"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker_jobs: list[Callable[[Any], Any]] = []
"""In a worker: its one job; the pool has no other place for it."""


def _start_worker(pickled_job: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker_jobs.append(pickle.loads(pickled_job))  # noqa: S301 - from the parent process


def _exit_with_parent() -> None:
    """End this worker when its parent is killed; the pool alone would leave it waiting forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(task: Any) -> Any:
    return _worker_jobs[0](task)
