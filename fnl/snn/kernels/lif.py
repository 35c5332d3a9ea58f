"""Leaky integrate-and-fire over time, compiled or in plain PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fnl.snn.kernels import lif_numba, lif_torch
from fnl.snn.kernels.dynamics import COMPILED_DTYPES, Dynamics, uses_numba, uses_triton
from fnl.snn.kernels.scan import Recorded, Scan
from fnl.snn.surrogates import SurrogateKind

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
_NO_DERIVATIVES = {dtype: np.empty((0, 0, 0), _NUMPY[dtype]) for dtype in COMPILED_DTYPES}
_NO_ROWS = {dtype: torch.empty(0, 0, dtype=dtype) for dtype in COMPILED_DTYPES}
_NOTHING_RECORDED = torch.empty(0, 0, dtype=torch.int32), torch.empty(0, 0, dtype=torch.float64)


def lif_forward(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    save: bool = False,
    record: bool = False,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor | None, Recorded | None]:
    """Step every neuron of every clip through time.

    Args:
        current: I, contiguous [B, T, F] with T >= 1.
        beta: decay per step, contiguous [F].
        threshold: θ, contiguous [F].
        dynamics: reset, its timing, backend.
        save: whether to return the membrane that `lif_backward` needs.
        record: whether to return statistics.
        overwrite: whether the membrane may take the place of `current`.

    Returns:
        Spikes [B, T, F]; the membrane compared with θ [B, T, F] or None; statistics or None.
    """
    if uses_triton(dynamics.backend, current):
        from fnl.snn.kernels import lif_triton  # noqa: PLC0415 Triton is there with CUDA only

        return lif_triton.lif_forward(current, beta, threshold, dynamics, save=save, record=record)
    if not uses_numba(dynamics.backend, current):
        spikes, membrane, left = lif_torch.lif_forward(current, beta, threshold, dynamics)
        recorded = None
        if record:
            recorded = spikes.sum(1).to(torch.int32), lif_torch.moments(left)
        return spikes, membrane if save else None, recorded
    clips, _, features = current.shape
    spikes = torch.empty_like(current)
    room = current if overwrite else torch.empty_like(current)
    membrane = room if save else current.new_empty(0, 0, 0)
    counts, moments = _NOTHING_RECORDED
    if record:
        counts = torch.zeros(clips, features, dtype=torch.int32)
        moments = torch.zeros(6, features, dtype=torch.float64)
    lif_numba.lif_forward(
        current.numpy(),
        beta.numpy(),
        threshold.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        spikes.numpy(),
        membrane.numpy(),
        counts.numpy(),
        moments.numpy(),
    )
    return spikes, membrane if save else None, (counts, moments) if record else None


def lif_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    dynamics: Dynamics,
    *,
    learns: bool = True,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dI [B, T, F], and dL/dβ and dL/dθ of each clip, [B, F] each.

    Args:
        grad_spikes: dL/dS, [B, T, F].
        membrane: from `lif_forward` with `save`.
        beta: as in the forward pass.
        threshold: as in the forward pass.
        dynamics: as in the forward pass.
        learns: whether the gradients of β and θ are wanted; what is returned for them says nothing
            if not.
        overwrite: whether dL/dI may take the place of `grad_spikes`.
    """
    if uses_triton(dynamics.backend, membrane):
        from fnl.snn.kernels import lif_triton  # noqa: PLC0415 Triton is there with CUDA only

        return lif_triton.lif_backward(
            grad_spikes, membrane, beta, threshold, dynamics, learns=learns
        )
    if not uses_numba(dynamics.backend, membrane):
        return lif_torch.lif_backward(grad_spikes, membrane, beta, threshold, dynamics)
    clips, _, features = membrane.shape
    derivatives, kind, slope, second = surrogate_arguments(dynamics, membrane, threshold)
    grad_spikes = grad_spikes.contiguous()
    grad_current = grad_spikes if overwrite else torch.empty_like(membrane)
    # a reset in the spike's own step has the kernel write to θ's in any case
    grad_beta = grad_threshold = _NO_ROWS[membrane.dtype]
    if learns or not dynamics.reset_delay:
        grad_beta, grad_threshold = membrane.new_zeros(2, clips, features)
    lif_numba.lif_backward(
        grad_spikes.numpy(),
        membrane.numpy(),
        derivatives,
        beta.numpy(),
        threshold.numpy(),
        int(dynamics.reset),
        dynamics.reset_delay,
        kind,
        slope,
        second,
        learns,
        grad_current.numpy(),
        grad_beta.numpy(),
        grad_threshold.numpy(),
    )
    return grad_current, grad_beta, grad_threshold


def surrogate_arguments(
    dynamics: Dynamics, membrane: Tensor, threshold: Tensor
) -> tuple[NDArray[np.floating[Any]], int, np.floating[Any], np.floating[Any]]:
    """Return what a compiled backward kernel takes of the surrogate.

    Returns:
        dS/dU [B, T, F] or an empty array, the formula's number, its parameters in the dtype of
        `membrane`. PyTorch's exponential is vectorised and Numba's is not, so formulas with one
        are evaluated here.
    """
    surrogate = dynamics.surrogate
    derivatives = _NO_DERIVATIVES[membrane.dtype]
    if surrogate.kind in (SurrogateKind.SIGMOID, SurrogateKind.SPIKE_RATE_ESCAPE):
        derivatives = surrogate.derivative(membrane - threshold).numpy()
    scalar = _NUMPY[membrane.dtype]
    return derivatives, int(surrogate.kind), scalar(surrogate.slope), scalar(surrogate.second)


def _backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    current: Tensor | None,  # noqa: ARG001 - nothing of LIF needs it
    *rows_and_dynamics: Any,
    learns: bool,
    overwrite: bool = False,
) -> tuple[Tensor, ...]:
    return lif_backward(
        grad_spikes, membrane, *rows_and_dynamics, learns=learns, overwrite=overwrite
    )


LIF_SCAN = Scan(lif_forward, _backward, overwrites=True)
"""Rows β and θ."""
