"""Work that the server does beside what it waits for, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch


class Background:
    """A thread that does one piece of work at a time, with one thread for its arithmetic."""

    def __init__(self) -> None:
        # PyTorch's number of threads is one of each thread that calls it (see `determinism`)
        self._thread = ThreadPoolExecutor(
            1, "background", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._work: Future[object] | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Do `work` in the thread, once what it does now is done; raises what that raised."""
        self.join()
        self._work = self._thread.submit(work)

    def join(self) -> None:
        """Wait for the work that was started last, and raise what it raised, once.

        It is waited for also when this is interrupted: what it writes is written whole.
        """
        work, interruption = self._work, None
        while work is not None and not work.done():
            try:
                wait([work])
            except BaseException as error:
                interruption = error
        self._work = None
        if interruption is not None:
            raise interruption
        if work is not None:
            work.result()

    def close(self) -> None:
        """End the thread; as `join`."""
        try:
            self.join()
        finally:
            self._thread.shutdown()
