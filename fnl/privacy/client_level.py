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

from fnl.config import Config
from fnl.privacy.budget import delta_of
from fnl.privacy.clip_factor import clip_factor
from fnl.privacy.ledger import Ledger, calibrate
from fnl.privacy.noise import NoiseSource
from fnl.schedule import planned_participations
from fnl.weights import Weights


def clipped_update(before: Weights, model: Weights, clip_norm: float) -> dict[str, NDArray]:
    """Return Δ·min(1, S/‖Δ‖) of Δ = model − before, by name, float64.

    Raises:
        ValueError: if a weight is not finite: no bound would hold then.
    """
    update = {name: model[name].astype(np.float64) - before[name] for name in before}
    norm = np.sqrt(sum(np.sum(value**2) for value in update.values()))
    if not np.isfinite(norm):
        raise ValueError("an update is not finite and cannot be clipped")
    factor = clip_factor(norm, clip_norm)
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


def noise_multiplier(config: Config) -> float:
    """Return z: as given, or the least that keeps the budget of whoever is asked most often.

    Raises:
        ConfigError: if no noise keeps privacy.client-epsilon.
    """
    privacy = config.privacy
    return privacy.client_noise_multiplier or calibrate(
        epsilon=privacy.client_epsilon,
        delta=client_delta(config),
        sample_rate=1.0,
        steps=_most_rounds(config, config.run.rounds),
        accountant=privacy.accountant,
    )


def epsilon_client(config: Config, server_round: int) -> float:
    """Return the largest client-level ε of any client after `server_round`; 0 before the first.

    A client counts as having taken part in every round in which it was asked, selected or not.
    """
    rounds = _most_rounds(config, server_round)
    if not rounds:
        return 0.0
    spent = Ledger().spend(noise_multiplier(config), 1.0, rounds)
    return spent.epsilon(client_delta(config), config.privacy.accountant)


def client_delta(config: Config) -> float:
    """Return the client-level δ: as given, or N^-1.1 of N clients."""
    return delta_of(config.privacy.client_delta, config.data.clients)


def _most_rounds(config: Config, until: int) -> int:
    asked = planned_participations(
        config.run.seed, until, config.data.clients, config.coordination.candidates
    )
    return int(asked.max())
