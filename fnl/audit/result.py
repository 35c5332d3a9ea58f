"""One line of an audit: a claim, an attack, and what the attack proves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fnl.audit.claims import Claim
from fnl.audit.membership import auc, true_positive_rate
from fnl.audit.one_run import bound_from_scores
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
        scores: float64 [M], larger for a canary that looks included.
        included: the coins, bool [M].
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
        claim, scores, included = self.claim, self.scores, self.included
        bound = bound_from_scores(scores, included, delta=claim.delta, confidence=confidence)
        return AuditResult(
            target=self.target,
            mechanism=claim.mechanism.value,
            claimed_epsilon=claim.epsilon,
            delta=claim.delta,
            lower_bound=bound.lower_bound,
            confidence=confidence,
            canaries=bound.canaries,
            guesses=bound.guesses,
            correct=bound.correct,
            auc=auc(scores[included], scores[~included]),
            attack=self.kind,
            tpr=true_positive_rate(scores[included], scores[~included], 0.01),
            noise_ratio=self.noise_ratio,
        )


def write_results(path: Path, results: Sequence[AuditResult]) -> None:
    """Write one row a result to a Parquet file, its columns the fields of `AuditResult`."""
    names = [field.name for field in fields(AuditResult)]
    frame = pl.DataFrame([asdict(result) for result in results]).select(names)
    write_atomically(path, frame.write_parquet)
    write_digests(path.parent, [path.name])
