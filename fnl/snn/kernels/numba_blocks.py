"""What the compiled kernels share: surrogates, the reset, and what is kept of a step.

A kernel is one call for a whole [B, T, F] current. Rows of F neurons are the inner loops, so that
they vectorise; the modes are decided once a row. Literals are taken from the arrays' dtype,
because in Numba `1.0 * float32` is float64, and the order of operations is snnTorch's, because
spikes have to come out the same to the last bit. Arguments are those of `scan.Passes`.
"""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Reset
from fnl.snn.surrogates import SurrogateKind

SUBTRACT = int(Reset.SUBTRACT)
ZERO = int(Reset.ZERO)
STRAIGHT_THROUGH = int(SurrogateKind.STRAIGHT_THROUGH)
TRIANGULAR = int(SurrogateKind.TRIANGULAR)
FAST_SIGMOID = int(SurrogateKind.FAST_SIGMOID)
ATAN = int(SurrogateKind.ATAN)
HEAVISIDE = int(SurrogateKind.HEAVISIDE)
SPARSE_FAST_SIGMOID = int(SurrogateKind.SPARSE_FAST_SIGMOID)


@kernel
def literals(like):
    """Return one and zero of the dtype of `like`."""
    return like.dtype.type(1), like.dtype.type(0)


@kernel
def surrogate_clip(b, surrogate, slopes, threshold, derivative):
    """Write dS/dU of clip b to `derivative`, [T, F]: once a clip, as calls inside steps cost time.

    `surrogate` is a `SurrogateKind` and its two parameters; `slopes`, [B, T, F], is dS/dU where the
    formula has an exponential, else U.
    """
    kind, slope, second = surrogate
    one, zero = literals(derivative)
    half_pi = derivative.dtype.type(np.pi / 2)
    half = derivative.dtype.type(0.5)
    steps, features = derivative.shape
    for t in range(steps):
        if kind == FAST_SIGMOID:
            for f in range(features):
                d = slope * abs(slopes[b, t, f] - threshold[f]) + one
                derivative[t, f] = one / (d * d)
        elif kind == ATAN:
            for f in range(features):
                d = half_pi * slope * (slopes[b, t, f] - threshold[f])
                derivative[t, f] = slope * half / (one + d * d)
        elif kind == STRAIGHT_THROUGH:
            for f in range(features):
                derivative[t, f] = one
        elif kind == TRIANGULAR:
            for f in range(features):
                x = slopes[b, t, f] - threshold[f]
                derivative[t, f] = -slope if x >= zero else slope
        elif kind == HEAVISIDE:
            for f in range(features):
                x = slopes[b, t, f] - threshold[f]
                derivative[t, f] = one if x > zero else zero
        elif kind == SPARSE_FAST_SIGMOID:
            for f in range(features):
                x = slopes[b, t, f] - threshold[f]
                d = slope * abs(x) + one
                derivative[t, f] = one / (d * d) if x > second else zero
        else:
            for f in range(features):
                derivative[t, f] = slopes[b, t, f]


@kernel
def rooms(like):
    """Return room to work in, of the dtype of `like` [B, T, F]: [T, F], then four rows [F]."""
    size, kind = like.shape[2], like.dtype
    rows = np.empty(size, kind), np.empty(size, kind), np.empty(size, kind), np.empty(size, kind)
    return np.empty(like.shape[1:], kind), *rows


@kernel
def room_for_left(counts, current):
    """Return room for the membrane before the first step, zero, and after each: [T + 1, F].

    One row where nothing is recorded, for `counts` is empty then.
    """
    _, steps, features = current.shape
    return np.zeros((steps + 1 if counts.shape[0] > 0 else 1, features), current.dtype)


@kernel
def keep(b, t, fired, carried, membrane, left):
    """Keep of step t the membrane compared with θ, and the one left, where there is room."""
    features = fired.shape[0]
    if membrane.shape[0] > 0:
        for f in range(features):
            membrane[b, t, f] = fired[f]
    if left.shape[0] > 1:
        for f in range(features):
            left[t + 1, f] = carried[f]


@kernel
def spike_and_leave(b, t, reset, reset_delay, threshold, fired, carried, spikes):
    """Write the spikes of step t; turn `carried`, what it started from, into what it leaves."""
    one, zero = literals(fired)
    for f in range(fired.shape[0]):
        spikes[b, t, f] = one if fired[f] - threshold[f] > zero else zero
    leave(reset, reset_delay, threshold, carried, fired)


@kernel
def leave(reset, reset_delay, threshold, carried, fired):
    """Turn `carried`, the membrane that a step started from, into the one it leaves, [F]."""
    one, zero = literals(fired)
    features = fired.shape[0]
    if reset_delay or reset not in (SUBTRACT, ZERO):
        for f in range(features):
            carried[f] = fired[f]
    elif reset == SUBTRACT:
        for f in range(features):
            was_reset = one if carried[f] - threshold[f] > zero else zero
            spike = one if fired[f] - threshold[f] > zero else zero
            carried[f] = fired[f] - (spike - was_reset) * threshold[f]
    else:
        for f in range(features):
            was_reset = one if carried[f] - threshold[f] > zero else zero
            spike = one if fired[f] - threshold[f] > zero else zero
            carried[f] = fired[f] - (spike - was_reset) * fired[f]


@kernel
def replay_left(b, reset, reset_delay, threshold, membrane, entered, fired, left):
    """Fill `left`, [T, F], with the membrane that each step of clip b left, which was not saved.

    `entered` and `fired`, [F], are room to work in.
    """
    entered[:] = 0
    for t in range(left.shape[0]):
        fired[:] = membrane[b, t]
        leave(reset, reset_delay, threshold, entered, fired)
        left[t] = entered


@kernel
def load_step(b, t, grad_spikes, membrane, left, entered, fired, grad_out):
    """Load what going back through step t starts from, [F] each."""
    entered[:] = 0
    if t > 0:
        entered[:] = left[t - 1]
    fired[:] = membrane[b, t]
    for f in range(fired.shape[0]):
        grad_out[f] = grad_spikes[b, t, f]


@kernel
def add_heard(b, t, grad_current, weight, grad_out):
    """Add to `grad_out`, [F], what the step after t heard of step t through `weight`."""
    for target in range(weight.shape[0]):
        came = grad_current[b, t + 1, target]
        for f in range(weight.shape[1]):
            grad_out[f] += came * weight[target, f]


@kernel
def undo_reset(
    reset, reset_delay, threshold, fired, entered, grad_out, grad_left, grad_threshold
):  # fmt: skip
    """Go back through the reset where it acts in the spike's own step.

    The membrane left is V − (S − R)θ or V − (S − R)V, where S carries gradient and R does not.
    Turns `grad_left`, the gradient of the membrane left, into that of V, and `grad_out` into the
    whole gradient of S; all [F].
    """
    one, zero = literals(fired)
    if reset_delay or reset not in (SUBTRACT, ZERO):
        return
    for f in range(fired.shape[0]):
        was_reset = one if entered[f] - threshold[f] > zero else zero
        spike = one if fired[f] - threshold[f] > zero else zero
        resets = spike - was_reset
        if reset == SUBTRACT:
            grad_out[f] -= grad_left[f] * threshold[f]
            grad_threshold[f] -= grad_left[f] * resets
        else:
            grad_out[f] -= grad_left[f] * fired[f]
            grad_left[f] *= one - resets
