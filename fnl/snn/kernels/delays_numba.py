"""Lines of spikes, each late by its own number of steps: compiled, one pass over [B, T, S, F]."""

# ruff: noqa: PLR0917 - compiled code: arrays by position

from __future__ import annotations

from fnl.snn.kernels.cache import kernel


@kernel
def shift(padded, offset, part, out):
    """Write `(1 − part) x[t + offset] + part x[t + offset + 1]` to `out`, [B, T, S, F].

    `padded` is x with zeros before and after, [B, T + span + 1, F]; `offset` and `part`, [S, F].
    """
    clips, steps, taps, features = out.shape
    for b in range(clips):
        for t in range(steps):
            for s in range(taps):
                for f in range(features):
                    step = t + offset[s, f]
                    now = padded[b, step, f]
                    out[b, t, s, f] = now + part[s, f] * (padded[b, step + 1, f] - now)


@kernel
def shift_back(grad, padded_grad, padded, offset, part, span, grad_input, grad_position):
    """Add to dL/dx, [B, T, F], and to dL/dposition of each clip, [B, S, F], unless that is empty.

    `grad` is dL/d`out`, [B, T, S, F], and `padded_grad` the same with zeros before and after,
    [B, T + span + 1, S, F].
    """
    clips, steps, taps, features = grad.shape
    for b in range(clips):
        for t in range(steps):
            for s in range(taps):
                if grad_position.shape[0] > 0:
                    for f in range(features):
                        step = t + offset[s, f]
                        rise = padded[b, step + 1, f] - padded[b, step, f]
                        grad_position[b, s, f] += grad[b, t, s, f] * rise
                for f in range(features):
                    step = t + span - offset[s, f]
                    early = padded_grad[b, step, s, f]
                    late = padded_grad[b, step + 1, s, f]
                    grad_input[b, t, f] += late + part[s, f] * (early - late)
