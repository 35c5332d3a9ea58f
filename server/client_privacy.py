"""Client-level privacy in a run: its noise, and what the client asked most often has spent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.privacy.budget import delta_of
from fnl.privacy.client_level import client_epsilon, client_noise, private_aggregate
from fnl.privacy.noise import SecureNoise
from fnl.randomness import Purpose, stream
from fnl.schedule import planned_participations
from fnl.weights import Weights


def privatise(
    config: Config,
    server_round: int,
    before: Weights,
    models: Sequence[Weights],
    shares: NDArray[np.float64],
) -> Weights:
    """Return the next global weights with every client's part bounded and hidden.

    Args:
        config: of the run.
        server_round: names the noise's stream.
        before: what the selected clients started from.
        models: what they trained.
        shares: their shares, float64 [m].

    Raises:
        ConfigError: if no noise keeps privacy.client-epsilon.
        ValueError: if an update is not finite.
    """
    seeded = stream(config.run.seed, Purpose.CLIENT_NOISE, server_round)
    return private_aggregate(
        before,
        models,
        shares,
        clip_norm=config.privacy.client_clip_norm,
        noise_multiplier=noise_multiplier(config),
        generator=SecureNoise() if config.privacy.secure_noise else seeded,
    )


def noise_multiplier(config: Config) -> float:
    """Return z: as given, or the least that keeps the budget of whoever is asked most often."""
    privacy = config.privacy
    return privacy.client_noise_multiplier or client_noise(
        epsilon=privacy.client_epsilon,
        delta=client_delta(config),
        rounds=_most_rounds(config, config.run.rounds),
        accountant=privacy.accountant,
    )


def epsilon_client(config: Config, server_round: int) -> float:
    """Return the largest client-level ε of any client after `server_round`.

    A client counts as having taken part in every round in which it was asked, selected or not.
    """
    return client_epsilon(
        noise_multiplier(config),
        delta=client_delta(config),
        rounds=_most_rounds(config, server_round),
        accountant=config.privacy.accountant,
    )


def client_delta(config: Config) -> float:
    """Return the client-level δ: as given, or N^-1.1 of N clients."""
    return delta_of(config.privacy.client_delta, config.data.clients)


def _most_rounds(config: Config, until: int) -> int:
    asked = planned_participations(
        config.run.seed, until, config.data.clients, config.coordination.candidates
    )
    return int(asked.max())
