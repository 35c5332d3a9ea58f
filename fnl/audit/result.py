"""One line of an audit: a claim, an attack, and what the attack proves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.audit.claims import Claim
from fnl.audit.membership import auc, true_positive_rate
from fnl.audit.one_run import Bound, bound_from_scores
from fnl.runtime.atomic import write_atomically
from fnl.runtime.digests import write_digests


@dataclass(frozen=True)
class AuditResult:
    """What one attack on one mechanism proves.

    Attributes:
        target: what was released: "weights", "rates-raw" or "rates-private".
        mechanism: "correct", or how it was broken.
        claimed_epsilon: ε of the claim; infinite without privacy.
        delta: δ of the claim.
        lower_bound: the release is not (ε, δ)-DP for any ε below it.
        confidence: of the lower bound.
        canaries: coins tossed.
        guesses: coins guessed.
        correct: coins guessed right.
        auc: area under the attack's ROC curve; 1/2 is guessing.
        attack: how the scores were made.
        tpr: true-positive rate at a false-positive rate of 1 %.
        noise_ratio: the most noise that is plausible in what was released, in parts of what the
            ledger booked; nan where it was not measured.
    """

    target: str
    mechanism: str
    claimed_epsilon: float
    delta: float
    lower_bound: float
    confidence: float
    canaries: int
    guesses: int
    correct: int
    auc: float
    attack: str
    tpr: float
    noise_ratio: float = math.nan

    @property
    def refuted(self) -> bool:
        """Whether the claim is shown to be false, or the noise to be less than it rests on."""
        return self.lower_bound > self.claimed_epsilon or self.noise_ratio < 1


@dataclass(frozen=True)
class Attack:
    """What an attack on one release made of the coins of M canaries.

    Attributes:
        target: what was released, as in `AuditResult`.
        kind: how the scores were made.
        claim: of the release; infinite ε in the clear.
        scores: float64 of any shape, M in all, larger for a canary that looks included.
        included: the coins, bool of that shape.
        noise_ratio: as in `AuditResult`.
    """

    target: str
    kind: str
    claim: Claim
    scores: NDArray[np.float64]
    included: NDArray[np.bool_]
    noise_ratio: float = math.nan

    def result(self, confidence: float) -> AuditResult:
        """Return what one-run auditing proves from the scores."""
        delta = self.claim.delta
        return self.proved(
            bound_from_scores(self.scores, self.included, delta=delta, confidence=confidence)
        )

    def proved(self, bound: Bound) -> AuditResult:
        """Return the line of an audit that has this bound."""
        inside, outside = self.scores[self.included], self.scores[~self.included]
        return AuditResult(
            target=self.target,
            mechanism=self.claim.mechanism.value,
            claimed_epsilon=self.claim.epsilon,
            delta=self.claim.delta,
            **asdict(bound),
            auc=auc(inside, outside),
            attack=self.kind,
            tpr=true_positive_rate(inside, outside, 0.01),
            noise_ratio=self.noise_ratio,
        )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what an audit found to a Parquet file, its columns the keys of the rows."""
    write_atomically(path, pl.DataFrame(rows).write_parquet)
    write_digests(path.parent, [path.name])
