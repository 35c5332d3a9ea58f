"""Leaky integrate-and-fire over time, compiled: one call for a whole [B, T, F] current.

Rows of F neurons are the inner loops, so that they vectorise; the modes are decided once a row.
Literals are taken from the arrays' dtype, because in Numba `1.0 * float32` is float64, and the
order of operations is snnTorch's, because spikes have to come out the same to the last bit.
"""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.dynamics import Reset
from fnl.snn.kernels.statistics_numba import record_clip
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
def surrogate_row(kind, slope, second, membrane, threshold, b, t, derivative):
    """Write dS/dU at U[b, t] − θ to `derivative`, [F]; the formulas without an exponential."""
    one = derivative.dtype.type(1)
    zero = derivative.dtype.type(0)
    half_pi = derivative.dtype.type(np.pi / 2)
    half = derivative.dtype.type(0.5)
    features = derivative.shape[0]
    if kind == FAST_SIGMOID:
        for f in range(features):
            d = slope * abs(membrane[b, t, f] - threshold[f]) + one
            derivative[f] = one / (d * d)
    elif kind == ATAN:
        for f in range(features):
            d = half_pi * slope * (membrane[b, t, f] - threshold[f])
            derivative[f] = slope * half / (one + d * d)
    elif kind == STRAIGHT_THROUGH:
        for f in range(features):
            derivative[f] = one
    elif kind == TRIANGULAR:
        for f in range(features):
            x = membrane[b, t, f] - threshold[f]
            derivative[f] = -slope if x >= zero else slope
    elif kind == HEAVISIDE:
        for f in range(features):
            x = membrane[b, t, f] - threshold[f]
            derivative[f] = one if x > zero else zero
    elif kind == SPARSE_FAST_SIGMOID:
        for f in range(features):
            x = membrane[b, t, f] - threshold[f]
            d = slope * abs(x) + one
            derivative[f] = one / (d * d) if x > second else zero


@kernel
def advance(reset, reset_delay, beta, threshold, current, b, t, carried, fired, spikes):
    """Advance the neurons of clip b by step t.

    Args:
        reset: a `Reset`.
        reset_delay: whether the reset acts in the step after the spike.
        beta: decay per step, [F].
        threshold: θ, [F].
        current: I, [B, T, F].
        b: the clip.
        t: the step.
        carried: the membrane that the step starts from, [F]; becomes the one it leaves.
        fired: receives the membrane that was compared with the threshold, [F].
        spikes: receives S[b, t], [B, T, F].
    """
    one = current.dtype.type(1)
    zero = current.dtype.type(0)
    features = current.shape[2]
    if reset == SUBTRACT:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * u + current[b, t, f] - was_reset * threshold[f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[b, t, f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * threshold[f]
    elif reset == ZERO:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * ((one - was_reset) * u) + current[b, t, f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[b, t, f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * v
    else:
        for f in range(features):
            v = beta[f] * carried[f] + current[b, t, f]
            fired[f] = v
            spikes[b, t, f] = one if v - threshold[f] > zero else zero
            carried[f] = v


@kernel
def leave(reset, reset_delay, threshold, carried, fired):
    """Turn `carried`, the membrane that a step started from, into the one it leaves, [F]."""
    one = fired.dtype.type(1)
    zero = fired.dtype.type(0)
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
def lif_forward(current, beta, threshold, reset, reset_delay, spikes, membrane, counts, moments):
    """Step every neuron of every clip through time.

    Args:
        current: I, [B, T, F].
        beta: decay per step, [F].
        threshold: θ, [F].
        reset: a `Reset`.
        reset_delay: whether the reset acts in the step after the spike.
        spikes: receives S, [B, T, F].
        membrane: receives the membrane compared with θ, [B, T, F]; or empty, to save nothing.
        counts: receives spikes per clip and neuron, [B, F]; or empty, for no statistics.
        moments: receives, added up over clips, per neuron: Σu, Σu², Σu[t]u[t+1], Σu[0], Σu[T−1]
            of the membrane after each step, and in how many steps it changed, the first step of
            a clip counted in any case, float64 [6, F]; zeros on entry.
    """
    zero = current.dtype.type(0)
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    saves = membrane.shape[0] > 0
    records = counts.shape[0] > 0
    left = np.zeros((steps + 1 if records else 1, features), current.dtype)
    for b in range(clips):
        carried[:] = zero
        for t in range(steps):
            advance(reset, reset_delay, beta, threshold, current, b, t, carried, fired, spikes)
            if saves:
                for f in range(features):
                    membrane[b, t, f] = fired[f]
            if records:
                for f in range(features):
                    left[t + 1, f] = carried[f]
        if records:
            record_clip(b, spikes, left, counts, moments)


@kernel
def undo_reset(reset, threshold, fired, entered, grad_out, grad_left, grad_threshold, b):
    """Go back through the reset that acts in the spike's own step.

    The membrane left is V − (S − R)θ or V − (S − R)V, where S carries gradient and R does not.
    Turns `grad_left`, the gradient of the membrane left, into that of V, and `grad_out` into the
    whole gradient of S; both [F].
    """
    one = fired.dtype.type(1)
    zero = fired.dtype.type(0)
    for f in range(fired.shape[0]):
        was_reset = one if entered[f] - threshold[f] > zero else zero
        spike = one if fired[f] - threshold[f] > zero else zero
        resets = spike - was_reset
        if reset == SUBTRACT:
            grad_out[f] -= grad_left[f] * threshold[f]
            grad_threshold[b, f] -= grad_left[f] * resets
        else:
            grad_out[f] -= grad_left[f] * fired[f]
            grad_left[f] *= one - resets


@kernel
def lif_backward(
    grad_spikes,
    membrane,
    derivatives,
    beta,
    threshold,
    reset,
    reset_delay,
    kind,
    slope,
    second,
    learns,
    grad_current,
    grad_beta,
    grad_threshold,
):
    """Go back through time.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: what `lif_forward` saved, [B, T, F].
        derivatives: dS/dU, [B, T, F]; or empty, for the formula of `kind`.
        beta: decay per step, [F].
        threshold: θ, [F].
        reset: a `Reset`.
        reset_delay: whether the reset acted in the step after the spike.
        kind: a `SurrogateKind`.
        slope: the surrogate's first parameter, of the arrays' dtype.
        second: the surrogate's second parameter, of the arrays' dtype.
        learns: whether the gradients of β and θ are wanted.
        grad_current: receives dL/dI, [B, T, F].
        grad_beta: receives dL/dβ of each clip, [B, F]; zeros on entry.
        grad_threshold: receives dL/dθ of each clip, [B, F]; zeros on entry.
    """
    one = membrane.dtype.type(1)
    zero = membrane.dtype.type(0)
    clips, steps, features = membrane.shape
    same_step = not reset_delay and reset in (SUBTRACT, ZERO)
    derivative = np.empty(features, membrane.dtype)
    fired = np.empty(features, membrane.dtype)
    entered = np.empty(features, membrane.dtype)
    grad_out = np.empty(features, membrane.dtype)
    grad_left = np.empty(features, membrane.dtype)
    left = np.empty((steps if same_step else 0, features), membrane.dtype)
    for b in range(clips):
        if same_step:  # the membrane left by each step was not saved
            entered[:] = zero
            for t in range(steps):
                fired[:] = membrane[b, t]
                leave(reset, reset_delay, threshold, entered, fired)
                left[t] = entered
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            if t == 0:
                entered[:] = zero
            elif same_step:
                entered[:] = left[t - 1]
            elif learns or reset == ZERO:
                for f in range(features):
                    entered[f] = membrane[b, t - 1, f]
            if derivatives.shape[0] > 0:
                for f in range(features):
                    derivative[f] = derivatives[b, t, f]
            else:
                surrogate_row(kind, slope, second, membrane, threshold, b, t, derivative)
            for f in range(features):
                grad_out[f] = grad_spikes[b, t, f]
            if same_step:
                for f in range(features):
                    fired[f] = membrane[b, t, f]
                undo_reset(reset, threshold, fired, entered, grad_out, grad_left, grad_threshold, b)
            if learns:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[f]
                    was_reset = one if entered[f] - threshold[f] > zero else zero
                    kept = one - was_reset if reset == ZERO else one
                    dropped = was_reset if reset == SUBTRACT else zero
                    grad_beta[b, f] += grad_in * kept * entered[f]
                    grad_threshold[b, f] -= grad_out[f] * derivative[f] + grad_in * dropped
            if reset == ZERO:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[f]
                    kept = zero if entered[f] - threshold[f] > zero else one
                    grad_current[b, t, f] = grad_in
                    grad_left[f] = beta[f] * kept * grad_in
            else:
                for f in range(features):
                    grad_in = grad_left[f] + grad_out[f] * derivative[f]
                    grad_current[b, t, f] = grad_in
                    grad_left[f] = beta[f] * grad_in
