"""A clipping bound that follows a quantile of the gradient norms, privately.

Andrew, Thakkar, McMahan & Ramaswamy 2021 (arXiv 1905.03871), on the clips of a client instead of
the clients of a federation. Each step also releases how many of its clips lay under the bound,
with noise, and moves the bound by it: C ← C·exp(−η(b̃ − γ)).

Gradients with noise z_Δ·C and the count of bᵢ − ½ (one clip moves it by ½) with noise σ_b are one
Gaussian mechanism of multiplier z, z⁻² = z_Δ⁻² + (2σ_b)⁻² (their Theorem 1): z is what the ledger
books, so the count's cost is in it and the gradients carry more noise, z_Δ > z.

Opacus' `AdaClipDPOptimizer` is not used: it releases the count of bᵢ, which one clip moves by 1,
with the noise that the theorem gives for ½, divides it by the drawn size of the mini-batch, which
is private under Poisson sampling, and fails on an empty one.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from fnl.privacy.noise import SecureNoise, normal_tensor

COUNT_NOISE_SHARE = 1 / 20
"""σ_b over the expected batch, as in the paper (section 3)."""
LEAST, LARGEST = 1e-6, 1e6
"""Bounds of C: beyond them sums in single precision lose, or overflow, what noise should hide."""


@dataclass(frozen=True)
class SplitNoise:
    """One noise multiplier z shared between gradients and count.

    Attributes:
        gradients: z_Δ.
        count: σ_b.
    """

    gradients: float
    count: float

    @classmethod
    def of(cls, noise_multiplier: float, expected_batch: float) -> SplitNoise:
        """Return z_Δ and σ_b of z: σ_b is a twentieth of the batch, and never below z.

        At σ_b = z the gradients carry 1.155 times the noise; a σ_b of z/2 would leave them none of
        the budget.
        """
        count = max(COUNT_NOISE_SHARE * expected_batch, noise_multiplier)
        if noise_multiplier == 0:
            return cls(0.0, count)
        return cls((noise_multiplier**-2 - (2 * count) ** -2) ** -0.5, count)


@dataclass
class AdaptiveBound:
    """The bound C and how it moves.

    Attributes:
        value: C, which `update` moves.
        quantile: γ, the share of clips that are to stay unclipped.
        learning_rate: η.
        count_noise: σ_b, on the count of unclipped clips.
        expected_batch: B̄.
    """

    value: float
    _: KW_ONLY
    quantile: float
    learning_rate: float
    count_noise: float
    expected_batch: float

    def update(self, norms: Tensor, noise: torch.Generator | SecureNoise) -> float:
        """Return the bound after a step whose clips had gradients of `norms` [B], B may be 0."""
        count = float((norms <= self.value).double().sum() - 0.5 * len(norms))
        count += float(normal_tensor(noise, self.count_noise, (1,)))
        share = count / self.expected_batch + 0.5
        step = min(-self.learning_rate * (share - self.quantile), math.log(LARGEST / LEAST))
        self.value = min(max(self.value * math.exp(step), LEAST), LARGEST)
        return self.value
