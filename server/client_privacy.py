"""Client-level privacy in a round: the selected models become one, bounded and with noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.privacy.client_level import noise_multiplier, private_aggregate
from fnl.privacy.noise import noise_source
from fnl.randomness import Purpose
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
    return private_aggregate(
        before,
        models,
        shares,
        clip_norm=config.privacy.client_clip_norm,
        noise_multiplier=noise_multiplier(config),
        generator=noise_source(config, Purpose.CLIENT_NOISE, server_round),
    )
