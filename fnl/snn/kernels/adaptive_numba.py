"""Adaptive leaky integrate-and-fire over time, compiled."""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.lif_numba import SUBTRACT, ZERO, surrogate_row
from fnl.snn.kernels.statistics_numba import record_clip


@kernel
def adaptive_forward(
    current, alpha, beta, a, b, threshold, reset, spikes, membrane, counts, moments
):
    """Step every neuron of every clip through time.

    Args:
        current: I, [B, T, F].
        alpha: decay of the membrane per step, [F].
        beta: decay of the adaptation per step, [F].
        a: adaptation by the membrane, [F].
        b: adaptation by a spike, [F].
        threshold: θ, [F].
        reset: a `Reset`, acting in the step after the spike.
        spikes: receives S, [B, T, F].
        membrane: receives u, [B, T, F]; or empty, to save nothing.
        counts: receives spikes per clip and neuron, [B, F]; or empty, for no statistics.
        moments: as in `lif_forward`.
    """
    one = current.dtype.type(1)
    zero = current.dtype.type(0)
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    before = np.empty(features, current.dtype)
    spiked = np.empty(features, current.dtype)
    adaptation = np.empty(features, current.dtype)
    saves = membrane.shape[0] > 0
    records = counts.shape[0] > 0
    left = np.zeros((steps + 1 if records else 1, features), current.dtype)
    for clip in range(clips):
        carried[:] = zero
        spiked[:] = zero
        adaptation[:] = zero
        for t in range(steps):
            before[:] = carried
            for f in range(features):
                s = spiked[f]
                kept = one - s if reset == ZERO else one
                dropped = s if reset == SUBTRACT else zero
                drive = (one - alpha[f]) * (current[clip, t, f] - adaptation[f])
                carried[f] = alpha[f] * (kept * before[f]) + drive - dropped * threshold[f]
                adaptation[f] = beta[f] * adaptation[f] + a[f] * before[f] + b[f] * s
            for f in range(features):
                spiked[f] = one if carried[f] - threshold[f] > zero else zero
                spikes[clip, t, f] = spiked[f]
            if saves:
                for f in range(features):
                    membrane[clip, t, f] = carried[f]
            if records:
                for f in range(features):
                    left[t + 1, f] = carried[f]
        if records:
            record_clip(clip, spikes, left, counts, moments)


@kernel
def adaptive_backward(
    grad_spikes,
    membrane,
    current,
    derivatives,
    alpha,
    beta,
    a,
    b,
    threshold,
    reset,
    kind,
    slope,
    second,
    learns,
    grad_current,
    grads,
):
    """Go back through time.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: u, what `adaptive_forward` saved, [B, T, F].
        current: I, [B, T, F]; or empty, if nothing is learned.
        derivatives: dS/du, [B, T, F]; or empty, for the formula of `kind`.
        alpha: decay of the membrane per step, [F].
        beta: decay of the adaptation per step, [F].
        a: adaptation by the membrane, [F].
        b: adaptation by a spike, [F].
        threshold: θ, [F].
        reset: a `Reset`.
        kind: a `SurrogateKind`.
        slope: the surrogate's first parameter, of the arrays' dtype.
        second: the surrogate's second parameter, of the arrays' dtype.
        learns: whether the gradients of the parameters are wanted.
        grad_current: receives dL/dI, [B, T, F].
        grads: receives dL/dα, dL/dβ, dL/da, dL/db, dL/dθ of each clip, [5, B, F]; zeros on entry.
    """
    one = membrane.dtype.type(1)
    zero = membrane.dtype.type(0)
    clips, steps, features = membrane.shape
    derivative = np.empty(features, membrane.dtype)
    entered = np.empty(features, membrane.dtype)
    spiked = np.empty(features, membrane.dtype)
    grad_u = np.empty(features, membrane.dtype)  # dL/du of the step after
    grad_w = np.empty(features, membrane.dtype)  # dL/dw of the step after
    adaptation = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for clip in range(clips):
        if learns:  # row t is w[t−1]
            entered[:] = zero
            spiked[:] = zero
            for t in range(steps):
                for f in range(features):
                    adapted = beta[f] * adaptation[t, f] + a[f] * entered[f] + b[f] * spiked[f]
                    adaptation[t + 1, f] = adapted
                    entered[f] = membrane[clip, t, f]
                    spiked[f] = one if entered[f] - threshold[f] > zero else zero
        grad_u[:] = zero
        grad_w[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            if derivatives.shape[0] > 0:
                for f in range(features):
                    derivative[f] = derivatives[clip, t, f]
            else:
                surrogate_row(kind, slope, second, membrane, threshold, clip, t, derivative)
            for f in range(features):
                s = one if membrane[clip, t, f] - threshold[f] > zero else zero
                kept = one - s if reset == ZERO else one
                through = (grad_spikes[clip, t, f] + b[f] * grad_w[f]) * derivative[f]
                left = alpha[f] * kept * grad_u[f] + a[f] * grad_w[f]
                grad_w[f] = beta[f] * grad_w[f] - (one - alpha[f]) * grad_u[f]
                grad_u[f] = left + through
                grad_current[clip, t, f] = (one - alpha[f]) * grad_u[f]
                if learns:
                    grads[4, clip, f] -= through
            if learns:
                entered[:] = zero
                spiked[:] = zero
                if t > 0:
                    for f in range(features):
                        entered[f] = membrane[clip, t - 1, f]
                        spiked[f] = one if entered[f] - threshold[f] > zero else zero
                for f in range(features):
                    kept = one - spiked[f] if reset == ZERO else one
                    dropped = spiked[f] if reset == SUBTRACT else zero
                    drive = current[clip, t, f] - adaptation[t, f]
                    grads[0, clip, f] += grad_u[f] * (kept * entered[f] - drive)
                    grads[1, clip, f] += grad_w[f] * adaptation[t, f]
                    grads[2, clip, f] += grad_w[f] * entered[f]
                    grads[3, clip, f] += grad_w[f] * spiked[f]
                    grads[4, clip, f] -= grad_u[f] * dropped
