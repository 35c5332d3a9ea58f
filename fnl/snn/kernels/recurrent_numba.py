"""Recurrent leaky integrate-and-fire over time, compiled.

Forward, the recurrent product is a sum of the columns of those neurons that fired, so its cost
follows the firing rate. Backward, it is a full product a step.
"""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.lif_numba import SUBTRACT, ZERO, leave, surrogate_row, undo_reset
from fnl.snn.kernels.statistics_numba import record_clip


@kernel
def recurrent_forward(
    current,
    beta,
    threshold,
    columns,
    bias,
    reset,
    reset_delay,
    spikes,
    membrane,
    counts,
    moments,
):
    """Step every neuron of every clip through time, spikes fed back to all neurons.

    Args:
        current: I, [B, T, F].
        beta: decay per step, [F].
        threshold: θ, [F].
        columns: the recurrent weights by the neuron they come from, [F from, F to].
        bias: added to the recurrent input at every step, [F].
        reset: a `Reset`.
        reset_delay: whether the reset acts in the step after the spike.
        spikes: receives S, [B, T, F].
        membrane: receives the membrane compared with θ, [B, T, F]; or empty, to save nothing.
        counts: receives spikes per clip and neuron, [B, F]; or empty, for no statistics.
        moments: as in `lif_forward`.
    """
    one = current.dtype.type(1)
    zero = current.dtype.type(0)
    clips, steps, features = current.shape
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    drive = np.empty(features, current.dtype)
    saves = membrane.shape[0] > 0
    records = counts.shape[0] > 0
    left = np.zeros((steps + 1 if records else 1, features), current.dtype)
    for b in range(clips):
        carried[:] = zero
        for t in range(steps):
            for f in range(features):
                drive[f] = bias[f]
            if t > 0:
                for source in range(features):
                    if spikes[b, t - 1, source] > zero:
                        for f in range(features):
                            drive[f] += columns[source, f]
            for f in range(features):
                u = carried[f]
                was_reset = one if u - threshold[f] > zero else zero
                v = beta[f] * u + current[b, t, f] + drive[f]
                if reset == SUBTRACT:
                    v = v - was_reset * threshold[f]
                elif reset == ZERO:
                    v = v - was_reset * v
                fired[f] = v
            for f in range(features):
                spikes[b, t, f] = one if fired[f] - threshold[f] > zero else zero
            if saves:
                for f in range(features):
                    membrane[b, t, f] = fired[f]
            leave(reset, reset_delay, threshold, carried, fired)
            if records:
                for f in range(features):
                    left[t + 1, f] = carried[f]
        if records:
            record_clip(b, spikes, left, counts, moments)


@kernel
def recurrent_backward(
    grad_spikes,
    membrane,
    derivatives,
    beta,
    threshold,
    rows,
    reset,
    reset_delay,
    kind,
    slope,
    second,
    grad_current,
    grad_beta,
    grad_threshold,
):
    """Go back through time.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: what `recurrent_forward` saved, [B, T, F].
        derivatives: dS/dU, [B, T, F]; or empty, for the formula of `kind`.
        beta: decay per step, [F].
        threshold: θ, [F].
        rows: the recurrent weights by the neuron they go to, [F to, F from].
        reset: a `Reset`.
        reset_delay: whether the reset acted in the step after the spike.
        kind: a `SurrogateKind`.
        slope: the surrogate's first parameter, of the arrays' dtype.
        second: the surrogate's second parameter, of the arrays' dtype.
        grad_current: receives dL/dI, [B, T, F]; also the gradient of the recurrent input.
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
    left = np.empty((steps, features), membrane.dtype)
    for b in range(clips):
        entered[:] = zero
        for t in range(steps):
            fired[:] = membrane[b, t]
            leave(reset, reset_delay, threshold, entered, fired)
            left[t] = entered
        grad_left[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            entered[:] = zero
            if t > 0:
                entered[:] = left[t - 1]
            fired[:] = membrane[b, t]
            for f in range(features):
                grad_out[f] = grad_spikes[b, t, f]
            if step > 0:
                for target in range(features):
                    sent = grad_current[b, t + 1, target]
                    for f in range(features):
                        grad_out[f] += sent * rows[target, f]
            if derivatives.shape[0] > 0:
                for f in range(features):
                    derivative[f] = derivatives[b, t, f]
            else:
                surrogate_row(kind, slope, second, membrane, threshold, b, t, derivative)
            if same_step:
                undo_reset(reset, threshold, fired, entered, grad_out, grad_left, grad_threshold, b)
            for f in range(features):
                through = grad_out[f] * derivative[f]
                grad_fired = grad_left[f] + through
                was_reset = one if entered[f] - threshold[f] > zero else zero
                grad_threshold[b, f] -= through
                if reset == SUBTRACT:
                    grad_threshold[b, f] -= grad_fired * was_reset
                elif reset == ZERO:
                    grad_fired = grad_fired * (one - was_reset)
                grad_beta[b, f] += grad_fired * entered[f]
                grad_left[f] = beta[f] * grad_fired
                grad_current[b, t, f] = grad_fired
