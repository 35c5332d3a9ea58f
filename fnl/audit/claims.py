"""What a mechanism claims and what it does: right, and broken on purpose.

An audit is worth something only if it catches broken mechanisms, so it brings two: noise a tenth
of what the ledger booked, and a ledger that forgets every earlier round, so that each round spends
the whole budget again (what a new accountant a round amounts to).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fnl.privacy.ledger import Ledger, calibrate


class Mechanism(StrEnum):
    """How the noise relates to the claim."""

    CORRECT = "correct"
    NOISE_TENTH = "noise a tenth"
    LEDGER_RESET = "ledger reset every round"


@dataclass(frozen=True)
class Work:
    """What is accounted: the same steps of the subsampled Gaussian mechanism in every round.

    Attributes:
        sample_rate: q; 1 where every clip takes part.
        steps: of a round.
        rounds: of the run.
    """

    sample_rate: float
    steps: int
    rounds: int


@dataclass(frozen=True)
class Claim:
    """A mechanism's noise and the ε it claims at δ.

    Attributes:
        mechanism: whether the claim is true.
        epsilon: claimed ε; infinite without noise.
        delta: δ of the claim.
        noise_multiplier: σ of the noise really added; None: neither noise nor clipping.
    """

    mechanism: Mechanism
    epsilon: float
    delta: float
    noise_multiplier: float | None


def claim(
    mechanism: Mechanism, work: Work, *, epsilon: float, delta: float, accountant: str
) -> Claim:
    """Return the claim of a client with the budget `epsilon`, as its ledger states it.

    Raises:
        ConfigError: if no noise keeps the budget.
    """
    if math.isinf(epsilon):
        return Claim(mechanism, math.inf, delta, None)
    rounds = 1 if mechanism is Mechanism.LEDGER_RESET else work.rounds
    steps = work.steps * rounds
    sigma = calibrate(
        epsilon=epsilon,
        delta=delta,
        sample_rate=work.sample_rate,
        steps=steps,
        accountant=accountant,
    )
    booked = Ledger().spend(sigma, work.sample_rate, steps).epsilon(delta, accountant)
    added = sigma / 10 if mechanism is Mechanism.NOISE_TENTH else sigma
    return Claim(mechanism, booked, delta, added)
