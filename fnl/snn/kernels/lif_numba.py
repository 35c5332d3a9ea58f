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
from fnl.snn.surrogates import SurrogateKind

SUBTRACT = int(Reset.SUBTRACT)
ZERO = int(Reset.ZERO)
STRAIGHT_THROUGH = int(SurrogateKind.STRAIGHT_THROUGH)
TRIANGULAR = int(SurrogateKind.TRIANGULAR)
FAST_SIGMOID = int(SurrogateKind.FAST_SIGMOID)
ATAN = int(SurrogateKind.ATAN)
SIGMOID = int(SurrogateKind.SIGMOID)
HEAVISIDE = int(SurrogateKind.HEAVISIDE)
SPIKE_RATE_ESCAPE = int(SurrogateKind.SPIKE_RATE_ESCAPE)
SPARSE_FAST_SIGMOID = int(SurrogateKind.SPARSE_FAST_SIGMOID)


@kernel
def surrogate_row(kind, slope, second, shifted, derivative):
    """Write dS/dU at `shifted` = U − θ, a row [F], to `derivative`."""
    one = derivative.dtype.type(1)
    zero = derivative.dtype.type(0)
    half_pi = derivative.dtype.type(np.pi / 2)
    half = derivative.dtype.type(0.5)
    features = shifted.shape[0]
    if kind == FAST_SIGMOID:
        for f in range(features):
            d = slope * abs(shifted[f]) + one
            derivative[f] = one / (d * d)
    elif kind == ATAN:
        for f in range(features):
            d = half_pi * slope * shifted[f]
            derivative[f] = slope * half / (one + d * d)
    elif kind == SIGMOID:
        for f in range(features):
            decay = np.exp(-slope * abs(shifted[f]))
            d = decay + one
            derivative[f] = slope * decay / (d * d)
    elif kind == STRAIGHT_THROUGH:
        derivative[:] = one
    elif kind == TRIANGULAR:
        for f in range(features):
            derivative[f] = -slope if shifted[f] >= zero else slope
    elif kind == HEAVISIDE:
        for f in range(features):
            derivative[f] = one if shifted[f] > zero else zero
    elif kind == SPIKE_RATE_ESCAPE:
        for f in range(features):
            derivative[f] = slope * np.exp(-second * abs(shifted[f] - one))
    elif kind == SPARSE_FAST_SIGMOID:
        for f in range(features):
            d = slope * abs(shifted[f]) + one
            derivative[f] = one / (d * d) if shifted[f] > second else zero


@kernel
def lif_row(reset, reset_delay, beta, threshold, current, carried, fired, spikes):
    """Advance a row [F] of neurons by one step.

    Args:
        reset: a `Reset`.
        reset_delay: whether the reset acts in the step after the spike.
        beta: decay per step, [F].
        threshold: θ, [F].
        current: I[t], [F].
        carried: the membrane that this step starts from, [F]; replaced by the one it leaves.
        fired: receives the membrane that was compared with the threshold, [F].
        spikes: receives S[t], [F].
    """
    one = current.dtype.type(1)
    zero = current.dtype.type(0)
    features = current.shape[0]
    if reset == SUBTRACT:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * u + current[f] - was_reset * threshold[f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * threshold[f]
    elif reset == ZERO:
        for f in range(features):
            u = carried[f]
            was_reset = one if u - threshold[f] > zero else zero
            v = beta[f] * ((one - was_reset) * u) + current[f]
            spike = one if v - threshold[f] > zero else zero
            fired[f] = v
            spikes[f] = spike
            carried[f] = v if reset_delay else v - (spike - was_reset) * v
    else:
        for f in range(features):
            v = beta[f] * carried[f] + current[f]
            fired[f] = v
            spikes[f] = one if v - threshold[f] > zero else zero
            carried[f] = v


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
            of the membrane after each step, float64 [5, F]; zeros on entry.
    """
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    before = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    save = membrane.shape[0] > 0
    record = counts.shape[0] > 0
    for b in range(clips):
        carried[:] = 0
        for t in range(steps):
            row = membrane[b, t] if save else fired
            if record:
                before[:] = carried
            lif_row(reset, reset_delay, beta, threshold, current[b, t], carried, row, spikes[b, t])
            if record:
                for f in range(features):
                    u = np.float64(carried[f])
                    counts[b, f] += np.int32(spikes[b, t, f])
                    moments[0, f] += u
                    moments[1, f] += u * u
                    # The membrane before the first step is zero, so it adds no product.
                    moments[2, f] += u * before[f]
                if t == 0:
                    for f in range(features):
                        moments[3, f] += carried[f]
                if t == steps - 1:
                    for f in range(features):
                        moments[4, f] += carried[f]


@kernel
def _reset_in_same_step(
    reset, threshold, grad_spikes, fired, entered, grad_left, grad_total, grad_threshold
):
    """Go back through the reset that acts in the spike's own step.

    The membrane left is V − (S − R)θ or V − (S − R)V, where S carries gradient and R does not.
    Turns `grad_left`, the gradient of the membrane left, into that of V, and writes the gradient
    of S to `grad_total`. All rows [F].
    """
    one = fired.dtype.type(1)
    zero = fired.dtype.type(0)
    for f in range(fired.shape[0]):
        was_reset = one if entered[f] - threshold[f] > zero else zero
        spike = one if fired[f] - threshold[f] > zero else zero
        resets = spike - was_reset
        if reset == SUBTRACT:
            grad_total[f] = grad_spikes[f] - grad_left[f] * threshold[f]
            grad_threshold[f] -= grad_left[f] * resets
        else:
            grad_total[f] = grad_spikes[f] - grad_left[f] * fired[f]
            grad_left[f] = grad_left[f] * (one - resets)


@kernel
def lif_backward(
    grad_spikes,
    membrane,
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
    same_step = not reset_delay and (reset in (SUBTRACT, ZERO))
    rest = np.zeros(features, membrane.dtype)
    shifted = np.empty(features, membrane.dtype)
    derivative = np.empty(features, membrane.dtype)
    grad_left = np.empty(features, membrane.dtype)
    grad_total = np.empty(features, membrane.dtype)
    left = np.empty((steps if same_step else 0, features), membrane.dtype)
    for b in range(clips):
        if same_step:  # the membrane left by each step was not saved
            for t in range(steps):
                for f in range(features):
                    v = membrane[b, t, f]
                    u = left[t - 1, f] if t > 0 else zero
                    was_reset = one if u - threshold[f] > zero else zero
                    spike = one if v - threshold[f] > zero else zero
                    drop = threshold[f] if reset == SUBTRACT else v
                    left[t, f] = v - (spike - was_reset) * drop
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            fired = membrane[b, t]
            entered = rest
            if t > 0:
                entered = left[t - 1] if same_step else membrane[b, t - 1]
            grad_out = grad_spikes[b, t]
            for f in range(features):
                shifted[f] = fired[f] - threshold[f]
            surrogate_row(kind, slope, second, shifted, derivative)
            if same_step:
                _reset_in_same_step(
                    reset,
                    threshold,
                    grad_out,
                    fired,
                    entered,
                    grad_left,
                    grad_total,
                    grad_threshold[b],
                )
                grad_out = grad_total
            grad_in = grad_current[b, t]
            for f in range(features):
                grad_in[f] = grad_left[f] + grad_out[f] * derivative[f]
            if reset == ZERO:
                for f in range(features):
                    kept = zero if entered[f] - threshold[f] > zero else one
                    grad_left[f] = beta[f] * kept * grad_in[f]
            else:
                for f in range(features):
                    grad_left[f] = beta[f] * grad_in[f]
            if learns:
                for f in range(features):
                    was_reset = one if entered[f] - threshold[f] > zero else zero
                    if reset == ZERO:
                        grad_beta[b, f] += grad_in[f] * (one - was_reset) * entered[f]
                    else:
                        grad_beta[b, f] += grad_in[f] * entered[f]
                    grad_threshold[b, f] -= grad_out[f] * derivative[f]
                    if reset == SUBTRACT:
                        grad_threshold[b, f] -= grad_in[f] * was_reset
