"""Tensor memory that a piece of work takes at its peak."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def peak_tensor_bytes(work: Callable[[], object]) -> int:
    """Return how far the tensors on the CPU grow above what there was before `work`, in bytes.

    Counted from PyTorch's own allocations and frees, and so the same at every run; NumPy's
    arrays are not counted.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it tells stderr that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results if profiler.profiler is not None else None
    if results is None:  # unreachable after a profile
        return 0
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    sizes = (event.nbytes() for event in events)  # pyright: ignore[reportAttributeAccessIssue] - undeclared
    return max(accumulate(sizes, initial=0))
