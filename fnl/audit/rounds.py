"""Rounds of an audited client, played by the code of every client (`fnl.training.local`).

The noise is what that code sets and gives to its mechanisms. Only what an audit breaks on purpose
is changed, where the client makes a mechanism of it.
"""

from __future__ import annotations

from torch import Tensor

from fnl.audit.claims import TENTH, Claim, Mechanism
from fnl.data.federated import Federation
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.snn.evaluation import Evaluation
from fnl.training.client import LocalTraining
from fnl.training.local import Play, play_round
from fnl.training.mechanism import GaussianMechanism
from fnl.training.units import Units
from fnl.weights import Weights
from fnl.wire.report import Rates


class Rounds:
    """The rounds of one client, from its first on.

    Args:
        claim: what is claimed of them.
        federation: the client's.
    """

    def __init__(self, claim: Claim, federation: Federation) -> None:
        self._claim = claim
        self._federation = federation
        self._ledger = Ledger()
        self._clip_norm: float | None = None

    def client(
        self,
        path: tuple[int, ...],
        *,
        clips: tuple[Tensor, Tensor],
        public_clips: int | None = None,
        units: Units | None = None,
    ) -> LocalTraining:
        """Return the client in its next round; the arguments are those of `LocalTraining`."""
        tenth = self._claim.mechanism is Mechanism.NOISE_TENTH
        return (_TenthOfNoise if tenth else LocalTraining)(
            self._claim.config,
            self._federation,
            path,
            clips=clips,
            units=units,
            public_clips=public_clips,
            clip_norm=self._clip_norm,
        )

    def play(self, client: LocalTraining, path: tuple[int, ...], weights: Weights) -> Play:
        """Play the next round of `client`, from the global model's `weights`.

        Raises:
            BudgetError: if the noise that a client sets does not keep its budget.
        """
        forgets = self._claim.mechanism is Mechanism.LEDGER_RESET
        played = yield from play_round(
            self._claim.config,
            self._federation,
            partition=path[1],
            server_round=path[0],
            weights=weights,
            ledger=Ledger() if forgets else self._ledger,
            noise=self._claim.noise if forgets else None,
            client=client,
        )
        self._ledger, self._clip_norm = played.ledger, played.clip_norm
        return played


class _TenthOfNoise(LocalTraining):
    """A client that adds a tenth of the noise that it books."""

    def mechanism(self, noise: Noise) -> GaussianMechanism:
        return super().mechanism(noise.scaled(TENTH))

    def reported_rates(
        self, before: Evaluation, after: Evaluation, noise: Noise | None
    ) -> tuple[Rates, Rates, float | None]:
        return super().reported_rates(before, after, noise and noise.scaled(TENTH))
