"""One thread for arithmetic, so that the order of every sum is the same on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one PyTorch thread, then restore the number there was.

    Parallel reductions split sums by thread count, so results would differ between engines and
    numbers of workers; parallelism here is over clients, never inside one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
