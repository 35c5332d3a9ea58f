"""The server's side of secure aggregation: from masked vectors to one step along their sum."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from fnl.config import Config
from fnl.privacy.secure_sum import opened
from fnl.privacy.shared_noise import SharedSum
from fnl.runtime.releases import Release, Releases, What
from fnl.schedule import asked_in
from fnl.weights import Weights, from_vector, weights_hash
from server.replies.vetting import Answer


class SummedUpdates:
    """Opens the sum of a round's answers, and steps along it.

    The step is the one local step of all clients together: θ − η·Σ_k(S_k + share)/Σ_k B̄_k over
    those that answered, S_k the sum of clipped gradients and B̄_k = q_k·n_k the public expected
    mini-batch. One clip moves Σ_k S_k by C whoever's it is.

    Args:
        config: of the run.
        shared: the arithmetic of its sums.
        releases: what has left it, over all its starts.
    """

    def __init__(self, config: Config, shared: SharedSum, releases: Releases) -> None:
        self._config = config
        self._shared = shared
        self._releases = releases

    def step(self, server_round: int, answers: Sequence[Answer], before: Weights) -> Weights:
        """Return the global weights after a step along the sum of `answers`.

        Raises:
            RunError: if too few answered to open it, or it was opened before under the same noise.
        """
        config = self._config
        asked = asked_in(config, server_round)
        self._book(server_round, answers, before)
        masked = {a.report.partition: a.masked for a in answers if a.masked is not None}
        total = opened(
            masked,
            cohort=asked.tolist(),
            threshold=self._shared.survivors,
            seed=config.run.seed,
            server_round=server_round,
        )
        rate = config.training.learning_rate_of(server_round, config.run.rounds)
        steps = from_vector(
            rate * self._shared.meant(total) / sum(map(expected_batch, answers)), before
        )
        return {name: np.asarray(value - steps[name], np.float32) for name, value in before.items()}

    def _book(self, server_round: int, answers: Sequence[Answer], before: Weights) -> None:
        """Write down whose sum is opened, and from which weights.

        Raises:
            RunError: as `Releases.note` does.
        """
        survivors = sorted(answer.report.partition for answer in answers)
        digest = sha256(f"{survivors} {weights_hash(before)}".encode()).hexdigest()
        release = Release(what=What.SUM, server_round=server_round, digest=digest)
        self._releases.note(release, seeded=not self._config.privacy.secure_noise)


def expected_batch(answer: Answer) -> float:
    """Return B̄_k of a client's step: public."""
    return answer.report.num_examples * answer.report.sample_rate
