"""Statistics of spikes and membranes that a compiled forward pass takes of a clip it has stepped.

Once a clip is through, its spikes and membranes are still in the processor's cache. Four steps are
added at a time, one after the other, so that sums are read and written a quarter as often and come
out as if steps had been added singly.
"""
# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel


@kernel
def record_clip(b, spikes, left, counts, moments):
    """Add clip b to the statistics of `scan.Recorded`; do nothing where `counts` is empty.

    `left` is the membrane before the first step, which is zero, and after each, [T + 1, F].
    """
    if counts.shape[0] == 0:
        return
    steps, features = left.shape[0] - 1, left.shape[1]
    fires, changes = counts[b], np.ones(features, np.int32)  # the first step always counts
    whole = steps - steps % 4
    for t in range(0, whole, 4):
        _add_four_moments(t, left, moments)
        _count_four(b, t, spikes, left, fires, changes)
    for t in range(whole, steps):
        _add_moments(t, left, moments)
        _count(b, t, spikes, left, fires, changes)
    for f in range(features):
        moments[3, f] += left[1, f]
        moments[4, f] += left[steps, f]
        moments[5, f] += changes[f]


@kernel
def _add_four_moments(t, left, moments):
    """Add steps t to t + 3 to Σu, Σu² and Σu[t]u[t+1]."""
    total, square, lag = moments[0], moments[1], moments[2]
    for f in range(left.shape[1]):
        before = np.float64(left[t, f])
        u0 = np.float64(left[t + 1, f])
        u1 = np.float64(left[t + 2, f])
        u2 = np.float64(left[t + 3, f])
        u3 = np.float64(left[t + 4, f])
        total[f] = total[f] + u0 + u1 + u2 + u3
        square[f] = square[f] + u0 * u0 + u1 * u1 + u2 * u2 + u3 * u3
        lag[f] = lag[f] + before * u0 + u0 * u1 + u1 * u2 + u2 * u3


@kernel
def _count_four(b, t, spikes, left, fires, changes):
    """Count the spikes of steps t to t + 3, and the changes of the membrane but for the first."""
    one = np.int32(1)
    zero = np.int32(0)
    first = zero if t == 0 else one
    for f in range(left.shape[1]):
        # sums of up to four ones are exact in any type
        fires[f] += np.int32(
            spikes[b, t, f] + spikes[b, t + 1, f] + spikes[b, t + 2, f] + spikes[b, t + 3, f]
        )
    for f in range(left.shape[1]):
        before, u0, u1 = left[t, f], left[t + 1, f], left[t + 2, f]
        u2, u3 = left[t + 3, f], left[t + 4, f]
        changed = first if u0 != before else zero
        changed += one if u1 != u0 else zero
        changed += one if u2 != u1 else zero
        changed += one if u3 != u2 else zero
        changes[f] += changed


@kernel
def _add_moments(t, left, moments):
    """Add step t to Σu, Σu² and Σu[t]u[t+1]."""
    for f in range(left.shape[1]):
        u = np.float64(left[t + 1, f])
        moments[0, f] += u
        moments[1, f] += u * u
        moments[2, f] += np.float64(left[t, f]) * u


@kernel
def _count(b, t, spikes, left, fires, changes):
    """Count the spikes of step t, and a change of the membrane unless it is the first step."""
    for f in range(left.shape[1]):
        fires[f] += np.int32(spikes[b, t, f])
        if t > 0:
            changes[f] += np.int32(left[t + 1, f] != left[t, f])
