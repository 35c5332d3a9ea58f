"""The clipping formula, for whatever is clipped: gradients, rates of clips, updates of clients."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Clipping = Literal["flat", "per-layer", "adaptive", "automatic"]
"""What is bounded: the whole gradient of a clip, or its part for each parameter; and by what."""

AUTOMATIC_STABILITY = 0.01
"""γ of automatic clipping, as in its paper: gradients much shorter than it stay short."""

_GUARD, _GUARD_OF_DOUBLES = 1e-6, 1e-12
"""Added to a norm so that zero divides nothing: Opacus', and a smaller one for doubles."""

_Norms = TypeVar("_Norms", bound=Any)
_Bound = TypeVar("_Bound", bound=Any)


def clip_factor(norms: _Norms, bound: float | _Norms, *, automatic: bool = False) -> _Norms:
    """Return min(1, bound/‖v‖) for each of `norms`, an array of NumPy or a tensor of PyTorch.

    What is multiplied by it has no norm above `bound`. With `automatic` it is C/(‖v‖ + γ), so that
    every vector is scaled (Bu, Wang, Zha & Karypis 2022, arXiv 2206.07136).
    """
    if automatic:
        return bound / (norms + AUTOMATIC_STABILITY)
    guard = _GUARD_OF_DOUBLES if norms.dtype.itemsize == 8 else _GUARD
    return (bound / (norms + guard)).clip(max=1.0)


def layer_bound(bound: _Bound, layers: int) -> _Bound:
    """Return C/√P: parts of P vectors that are each bounded by it are bounded by C together."""
    return bound / layers**0.5


def clip_factors(
    norms: NDArray[np.float64], clip_norm: float, clipping: Clipping
) -> NDArray[np.float64]:
    """Return by what the part of each clip's gradient in each parameter is scaled, [n, P].

    Args:
        norms: L2 norms of these parts, [n, P].
        clip_norm: C; adaptive clipping: where it stands.
        clipping: per layer each part is bounded by C/√P, else the whole gradient by C.
    """
    if clipping == "per-layer":
        return clip_factor(norms, layer_bound(clip_norm, norms.shape[1]))
    whole = np.linalg.norm(norms, axis=1, keepdims=True)
    factors = clip_factor(whole, clip_norm, automatic=clipping == "automatic")
    return np.broadcast_to(factors, norms.shape)
