"""Leaky integrate-and-fire with a synaptic current (second order) over time, compiled."""
# ruff: noqa: PLR0912, PLR0917 - compiled code: one branch a mode, arrays by position

from __future__ import annotations

import numpy as np

from fnl.snn.kernels.cache import kernel
from fnl.snn.kernels.lif_numba import SUBTRACT, ZERO, leave, surrogate_row, undo_reset
from fnl.snn.kernels.statistics_numba import record_clip


@kernel
def synaptic_forward(
    current,
    alpha,
    beta,
    threshold,
    reset,
    reset_delay,
    spikes,
    membrane,
    counts,
    moments,
):
    """Step every neuron of every clip through time.

    Args:
        current: I, [B, T, F].
        alpha: decay of the synaptic current per step, [F].
        beta: decay of the membrane per step, [F].
        threshold: θ, [F].
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
    synaptic = np.empty(features, current.dtype)
    carried = np.empty(features, current.dtype)
    fired = np.empty(features, current.dtype)
    saves = membrane.shape[0] > 0
    records = counts.shape[0] > 0
    left = np.zeros((steps + 1 if records else 1, features), current.dtype)
    for b in range(clips):
        synaptic[:] = zero
        carried[:] = zero
        for t in range(steps):
            for f in range(features):
                synaptic[f] = alpha[f] * synaptic[f] + current[b, t, f]
            if reset == SUBTRACT:
                for f in range(features):
                    was_reset = one if carried[f] - threshold[f] > zero else zero
                    fired[f] = beta[f] * carried[f] + synaptic[f] - was_reset * threshold[f]
            elif reset == ZERO:
                for f in range(features):
                    was_reset = one if carried[f] - threshold[f] > zero else zero
                    v = beta[f] * carried[f] + synaptic[f]
                    fired[f] = v - was_reset * v
            else:
                for f in range(features):
                    fired[f] = beta[f] * carried[f] + synaptic[f]
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
def synaptic_backward(
    grad_spikes,
    membrane,
    current,
    derivatives,
    alpha,
    beta,
    threshold,
    reset,
    reset_delay,
    kind,
    slope,
    second,
    learns,
    grad_current,
    grad_alpha,
    grad_beta,
    grad_threshold,
):
    """Go back through time.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: what `synaptic_forward` saved, [B, T, F].
        current: I, [B, T, F]; or empty, if nothing is learned.
        derivatives: dS/dU, [B, T, F]; or empty, for the formula of `kind`.
        alpha: decay of the synaptic current per step, [F].
        beta: decay of the membrane per step, [F].
        threshold: θ, [F].
        reset: a `Reset`.
        reset_delay: whether the reset acted in the step after the spike.
        kind: a `SurrogateKind`.
        slope: the surrogate's first parameter, of the arrays' dtype.
        second: the surrogate's second parameter, of the arrays' dtype.
        learns: whether the gradients of α, β and θ are wanted.
        grad_current: receives dL/dI, [B, T, F]; also the gradient of the synaptic current.
        grad_alpha: receives dL/dα of each clip, [B, F]; zeros on entry.
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
    grad_synaptic = np.empty(features, membrane.dtype)
    left = np.empty((steps, features), membrane.dtype)
    synaptic = np.zeros((steps + 1 if learns else 0, features), membrane.dtype)
    for b in range(clips):
        entered[:] = zero
        for t in range(steps):
            fired[:] = membrane[b, t]
            leave(reset, reset_delay, threshold, entered, fired)
            left[t] = entered
        if learns:  # row t is the synaptic current before step t
            for t in range(steps):
                for f in range(features):
                    synaptic[t + 1, f] = alpha[f] * synaptic[t, f] + current[b, t, f]
        grad_left[:] = zero
        grad_synaptic[:] = zero
        for step in range(steps):
            t = steps - 1 - step
            entered[:] = zero
            if t > 0:
                entered[:] = left[t - 1]
            fired[:] = membrane[b, t]
            for f in range(features):
                grad_out[f] = grad_spikes[b, t, f]
            if derivatives.shape[0] > 0:
                for f in range(features):
                    derivative[f] = derivatives[b, t, f]
            else:
                surrogate_row(kind, slope, second, membrane, threshold, b, t, derivative)
            if same_step:
                undo_reset(reset, threshold, fired, entered, grad_out, grad_left, grad_threshold, b)
            for f in range(features):
                through = grad_out[f] * derivative[f]
                was_reset = one if entered[f] - threshold[f] > zero else zero
                kept = one - was_reset if reset == ZERO else one
                dropped = was_reset if reset == SUBTRACT else zero
                grad_fired = (grad_left[f] + through) * kept
                grad_in = grad_fired + alpha[f] * grad_synaptic[f]
                grad_threshold[b, f] -= through + grad_fired * dropped
                grad_beta[b, f] += grad_fired * entered[f]
                grad_left[f] = beta[f] * grad_fired
                grad_synaptic[f] = grad_in
                grad_current[b, t, f] = grad_in
            if learns:
                for f in range(features):
                    grad_alpha[b, f] += grad_synaptic[f] * synaptic[t, f]
