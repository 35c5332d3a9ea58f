"""First-order prediction of the rate shift that clipping and noise cause. Pure functions.

A step of SGD under DP-SGD differs from the step without by −η (b + ξ): b is what clipping takes
from the mean gradient, ξ the noise N(0, (σC/B̄)²) in every weight. To first order in η the network
rate r then differs by −η ∇r·(b + ξ), with ∇r through the surrogate, so that over the steps of a
round, each taken at the round's global model,

    E[Δr] ≈ −η Σ_s a_s ∇r·b_C,    Var[Δr] ≈ (ησC/B̄)² ‖∇r‖² Σ_s a_s²,

with b_C = mean over the client's clips of (clipped − raw gradient), and a_s = 1 for plain SGD.
Momentum μ lets the gradient of step s of S act in every later step: a_s = (1 − μ^(S−s+1))/(1 − μ).

Source: arXiv 2602.12009, as far as its summaries tell (docs/metrics.md); momentum is ours. It
does not hold for Adam, whose step is not linear in the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnl.privacy.clip_factor import Clipping, clip_factors


@dataclass(frozen=True)
class ClipProjections:
    """What first order needs of the gradients of n clips by P parameters.

    Attributes:
        norms: L2 norm of each clip's gradient in each parameter, [n, P].
        along_rate: ∇r·g of each clip in each parameter, [n, P].
        rate_gradient_norm: ‖∇r‖ over all parameters.
    """

    norms: NDArray[np.float64]
    along_rate: NDArray[np.float64]
    rate_gradient_norm: float


@dataclass(frozen=True)
class RateShift:
    """A predicted rate shift of one client in one round.

    Attributes:
        mean: E[Δr], from clipping.
        standard_deviation: of Δr over the noise, the mini-batches being given.
    """

    mean: float
    standard_deviation: float


def step_weights(steps: int, momentum: float) -> NDArray[np.float64]:
    """Return a_s, how many steps' worth the gradient of each step counts in the end, [S]."""
    return np.cumsum(np.float64(momentum) ** np.arange(steps, dtype=np.float64))[::-1]


def weight_noise(
    *,
    noise_multiplier: float,
    clip_norm: float,
    expected_batch: float,
    learning_rate: float,
    steps: int,
    momentum: float = 0.0,
) -> float:
    """Return τ, the deviation of DP's noise in each weight after `steps` steps of SGD."""
    acting = float(np.sqrt((step_weights(steps, momentum) ** 2).sum()))
    return learning_rate * noise_multiplier * clip_norm / expected_batch * acting


def first_order_shift(
    projections: ClipProjections,
    *,
    clip_norm: float,
    clipping: Clipping,
    noise_multiplier: float,
    expected_batch: float,
    learning_rate: float,
    steps: int,
    momentum: float = 0.0,
) -> RateShift:
    """Return the rate shift that clipping and noise cause in `steps` steps of SGD."""
    lost = clip_factors(projections.norms, clip_norm, clipping) - 1.0
    along_bias = float((lost * projections.along_rate).sum(axis=1).mean())
    noise = weight_noise(
        noise_multiplier=noise_multiplier,
        clip_norm=clip_norm,
        expected_batch=expected_batch,
        learning_rate=learning_rate,
        steps=steps,
        momentum=momentum,
    )
    return RateShift(
        mean=-learning_rate * float(step_weights(steps, momentum).sum()) * along_bias,
        standard_deviation=noise * projections.rate_gradient_norm,
    )
