"""Client-level privacy of a run: each round's noise, and what all that has left has cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fnl.config import Config
from fnl.privacy.banded_noise import BandedNoise
from fnl.privacy.client_level import epsilon_client, noise_after, private_aggregate
from fnl.privacy.noise import noise_source
from fnl.randomness import Purpose
from fnl.runtime.releases import Release, Releases, What
from fnl.weights import Weights, weights_hash


class ClientPrivacy:
    """Makes a round's global model private, and books it before it leaves.

    Args:
        config: of the run.
        releases: what has left it, over all its starts.
        done: rounds that were done before this start.

    Raises:
        ConfigError: if no noise keeps privacy.client-epsilon, after what has left already.
    """

    def __init__(self, config: Config, releases: Releases, done: int = 0) -> None:
        self._config = config
        self._releases = releases
        self._banded = BandedNoise(config) if config.privacy.client_bands > 1 else None
        self._repeats = not config.privacy.secure_noise  # the same bits, from the run's seed
        self.noise_multiplier = noise_after(config, self._released(done), done)

    def privatise(
        self,
        server_round: int,
        before: Weights,
        models: Sequence[Weights],
        shares: NDArray[np.float64],
        *,
        largest_share: float,
    ) -> Weights:
        """Return the next global weights with every client's part bounded and hidden.

        Args:
            server_round: names the noise's stream.
            before: what the selected clients started from.
            models: what they trained; `before` itself of a client that gave nothing.
            shares: their shares, float64 [m], which depend on nothing that clients compute.
            largest_share: of anyone that could have been selected.
        """
        source = self._banded.of_round(server_round) if self._banded else None
        return private_aggregate(
            before,
            models,
            shares,
            largest_share=largest_share,
            clip_norm=self._config.privacy.client_clip_norm,
            noise_multiplier=self.noise_multiplier,
            generator=source or noise_source(self._config, Purpose.CLIENT_NOISE, server_round),
        )

    def book(self, server_round: int, after: Weights) -> float:
        """Book the model of a round, durably, before it leaves; return the largest ε so far.

        Raises:
            RunError: as `Releases.note` does.
        """
        release = Release(
            what=What.MODEL,
            server_round=server_round,
            digest=weights_hash(after),
            noise_multiplier=self.noise_multiplier,
        )
        self._releases.note(release, seeded=self._repeats)
        return epsilon_client(self._config, self._released(server_round))

    def _released(self, until: int) -> list[tuple[int, float]]:
        """Return what counts after the round `until`.

        With fresh noise everything that ever left. A seeded run that begins again gives the same
        bits as before, so what it cost after a round is what it had cost then.
        """
        return [
            (release.server_round, float(release.noise_multiplier or 0))
            for release in self._releases.of(What.MODEL)
            if not self._repeats or release.server_round <= until
        ]
