"""Tensor memory that a piece of work takes at its peak."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def peak_tensor_bytes(work: Callable[[], object]) -> int:
    """Return how far the tensors on the CPU grow above what there was before `work`, in bytes.

    Counted from PyTorch's own allocations and frees, and so the same at every run; NumPy's
    arrays are not counted, and neither is what `work` frees of memory that was there before.
    """
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        work()
    results = p.profiler.kineto_results if p.profiler is not None else None
    if results is None:  # unreachable after a profile
        return 0
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    sizes = (event.nbytes() for event in events)  # pyright: ignore[reportAttributeAccessIssue] - undeclared
    return max(accumulate(sizes, initial=0))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what libraries write to standard error nowhere: the profiler tells when it starts."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
