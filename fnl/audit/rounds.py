"""Rounds of an audited client, played by the code of every client (`fnl.training.local`).

The noise is what that code sets and gives to its mechanism. Only what an audit breaks on purpose is
changed, and only when the training is granted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from fnl.audit.claims import TENTH, Claim, Mechanism, claiming
from fnl.config import Config, parse_config
from fnl.data.federated import Federation
from fnl.privacy.ledger import Ledger
from fnl.training.client import LocalTraining
from fnl.training.local import Measure, Train, finished, play_round
from fnl.weights import Weights

ASIDE = {
    "evaluation.shadow": False,
    "evaluation.floor": False,
    "evaluation.sensitivity": False,
    "training.sent-share": 1.0,
    "training.sent-bits": 32,
}
"""What only measures, or makes less of an update before it leaves: the attacks see it whole."""


class Rounds:
    """The rounds of one client, from its first on.

    Args:
        claim: what is claimed of them.
        config: of the run.
        federation: the client's.
    """

    def __init__(self, claim: Claim, config: Config, federation: Federation) -> None:
        budget = config.privacy.epsilon if claim.noise is None else claim.budget
        self._config = parse_config({**claiming(config, budget, rates=False).flat(), **ASIDE})
        self._claim = claim
        self._federation = federation
        self._ledger = Ledger()
        self._clip_norm: float | None = None

    def train(
        self,
        weights: Weights,
        path: tuple[int, ...],
        *,
        clips: tuple[Tensor, Tensor],
        public_clips: int,
    ) -> tuple[LocalTraining, Weights]:
        """Play the next round; return the client in it, and the weights that leave.

        Args:
            weights: the global model.
            path: as in `LocalTraining`, which says the other two, too.
            clips: what the client holds.
            public_clips: how many it is planned for.

        Raises:
            BudgetError: if the noise that a client sets does not keep its budget.
        """
        forgets = self._claim.mechanism is Mechanism.LEDGER_RESET
        client = LocalTraining(
            self._config,
            self._federation,
            path,
            clips=clips,
            public_clips=public_clips,
            clip_norm=self._clip_norm,
        )
        playing = play_round(
            self._config,
            self._federation,
            partition=path[1],
            server_round=path[0],
            weights=weights,
            ledger=Ledger() if forgets else self._ledger,
            noise=self._claim.noise if forgets else None,
            client=client,
        )
        played = finished(playing, self._grant)
        self._ledger, self._clip_norm = played.ledger, played.clip_norm
        return client, played.weights

    def _grant(self, wish: Measure | Train) -> Any:
        if isinstance(wish, Train):
            if self._claim.noise is None:
                wish = replace(wish, noise=None)
            elif self._claim.mechanism is Mechanism.NOISE_TENTH and wish.noise is not None:
                wish = replace(wish, noise=wish.noise.scaled(TENTH))
        return wish.granted()
