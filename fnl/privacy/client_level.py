"""Client-level differential privacy: noise on the server hides a client's whole part in a run.

Each selected update Δ_k = θ_k − θ is clipped to an L2 norm S, weighted with a public share w_k, and
noise N(0, (z·S·max w)²) is added to every entry of the sum (McMahan et al. 2018, arXiv 1710.06963;
Geyer et al. 2017, arXiv 1712.07557). Replacing a client's update by nothing moves the sum by at
most S·max w: one step of multiplier z at sampling rate 1 for each of its rounds. Candidates come
from a schedule that is known, so no amplification by sampling is claimed.

Flower's `DifferentialPrivacyServerSideFixedClipping` takes equal weights alone, draws from NumPy's
global generator, which no seed of a run reaches, and divides by the norm of an update that may be
zero; the formulas are its.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.privacy.ledger import Ledger, calibrate
from fnl.privacy.noise import NoiseSource
from fnl.weights import Weights


def clipped_update(before: Weights, model: Weights, clip_norm: float) -> dict[str, NDArray]:
    """Return Δ·min(1, S/‖Δ‖) of Δ = model − before, by name, float64.

    Raises:
        ValueError: if a weight is not finite: no bound would hold then.
    """
    update = {name: model[name].astype(np.float64) - before[name] for name in before}
    norm = float(np.sqrt(sum(np.sum(value**2) for value in update.values())))
    if not np.isfinite(norm):
        raise ValueError("an update is not finite and cannot be clipped")
    factor = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return {name: factor * value for name, value in update.items()}


def private_aggregate(
    before: Weights,
    models: Sequence[Weights],
    shares: NDArray[np.float64],
    *,
    clip_norm: float,
    noise_multiplier: float,
    generator: NoiseSource,
) -> Weights:
    """Return θ + Σ_k w_k·clip_S(θ_k − θ) + N(0, (z·S·max w)²I).

    Args:
        before: θ, the global weights the clients started from.
        models: θ_k of the selected clients.
        shares: w_k, float64 [m]; they must not depend on what the clients compute.
        clip_norm: S.
        noise_multiplier: z.
        generator: where the noise comes from.

    Raises:
        ValueError: if there are no models, shares are negative or none a model, or an update is
            not finite.
    """
    if not models or len(models) != len(shares) or not (np.asarray(shares) >= 0).all():
        raise ValueError(f"{len(models)} models and the shares {shares} do not make an aggregate")
    updates = [clipped_update(before, model, clip_norm) for model in models]
    std = noise_multiplier * clip_norm * float(np.max(shares))
    after: Weights = {}
    for name, start in before.items():
        total = start.astype(np.float64)
        for share, update in zip(shares, updates, strict=True):
            total = total + share * update[name]
        noise = generator.normal(0.0, std, start.shape)
        after[name] = (total + noise).astype(np.float32)
    return after


def client_noise(*, epsilon: float, delta: float, rounds: int, accountant: str) -> float:
    """Return z, so that a client asked in `rounds` rounds spends at most ε.

    Raises:
        ConfigError: if no noise keeps the budget.
    """
    return calibrate(
        epsilon=epsilon, delta=delta, sample_rate=1.0, steps=rounds, accountant=accountant
    )


def client_epsilon(noise_multiplier: float, *, delta: float, rounds: int, accountant: str) -> float:
    """Return ε of a client that was asked in `rounds` rounds; 0 for none."""
    if not rounds:
        return 0.0
    return Ledger().spend(noise_multiplier, 1.0, rounds).epsilon(delta, accountant)
