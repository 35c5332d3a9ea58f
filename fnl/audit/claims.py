"""What a mechanism claims and what it does: right, and broken on purpose.

Noise, plan and ledger are a client's own (`fnl/training`). An audit is worth something only if it
catches broken mechanisms, so it brings two: noise a tenth of what the ledger booked, and a ledger
that forgets every earlier round, so that each round spends the whole budget again (what a new
accountant a round amounts to).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from fnl.config import Config, Scalar, parse_config
from fnl.privacy.budget import Noise
from fnl.privacy.ledger import Ledger
from fnl.training.spending import book_round, noise_of, workload_of

TENTH = 0.1
"""Of the right noise, in a mechanism that is broken on purpose."""

_ASIDE = {
    "evaluation.shadow": False,
    "evaluation.floor": False,
    "evaluation.sensitivity": False,
    "training.sent-share": 1.0,
    "training.sent-bits": 32,
}
"""What only measures, or makes less of an update before it leaves: the attacks see it whole."""


class Mechanism(StrEnum):
    """How the noise relates to the claim."""

    CORRECT = "correct"
    NOISE_TENTH = "noise a tenth"
    LEDGER_RESET = "ledger reset every round"


@dataclass(frozen=True)
class Claim:
    """A mechanism's noise and the ε it claims at δ.

    Attributes:
        mechanism: whether the claim is true.
        epsilon: claimed ε; infinite without noise.
        delta: δ of the claim.
        config: of the rounds that it is about.
        noise: what is really added; None: neither noise nor clipping.
        booked: the noise multiplier that the ledger has: of gradients, or of releases of rates.
    """

    mechanism: Mechanism
    epsilon: float
    delta: float
    config: Config
    noise: Noise | None = None
    booked: float | None = None


def claim(
    mechanism: Mechanism,
    config: Config,
    *,
    epsilon: float,
    partition: int,
    clips: int,
    rates: bool = False,
) -> Claim:
    """Return the claim of one client for its weights, or for its releases of rates alone.

    Args:
        mechanism: correct, or broken on purpose.
        config: of the run.
        epsilon: the client's budget; infinite: no privacy.
        partition: the client; it trains in every round.
        clips: its public number of clips.
        rates: whether the claim is for the releases of rates.

    Raises:
        BudgetError: if the noise that a client sets does not keep its budget.
        ConfigError: if no noise keeps it.
    """
    config = _claiming(config, epsilon, rates=rates)
    if math.isinf(epsilon):
        return Claim(mechanism, math.inf, config.privacy.delta, config)
    work = workload_of(config, partition, clips)
    if mechanism is Mechanism.LEDGER_RESET:
        work = replace(work, rounds=1)
    noise = noise_of(config, work)
    ledger = book_round(config, Ledger(), noise, work, spent_rounds=range(1, work.rounds))
    if rates:
        releases = [entry for entry in noise.of(work) if entry.noise_multiplier == noise.rates]
        ledger = Ledger().with_entries(releases)
    epsilon = ledger.epsilon(work.delta, config.privacy.accountant)
    added = noise.scaled(TENTH) if mechanism is Mechanism.NOISE_TENTH else noise
    return Claim(mechanism, epsilon, work.delta, config, added, ledger.entries[0].noise_multiplier)


def _claiming(config: Config, epsilon: float, *, rates: bool) -> Config:
    """Return `config` with the budget `epsilon` of each client, all of whom train in every round.

    For `rates` it is the budget of their releases alone, and gradients get as much again. Without
    a budget clients have no privacy.
    """
    private: dict[str, Scalar] = {
        "privacy.noise-allocation": "uniform-epsilon",
        "privacy.epsilon": 2 * epsilon if rates else epsilon,
        "privacy.rate-release": "gaussian" if rates else "none",
        "privacy.rate-epsilon": epsilon if rates else 0.0,
    }
    if math.isinf(epsilon):
        private = {"privacy.mode": "none", "privacy.rate-epsilon": 0.0}
    everyone = {"coordination.candidates": config.data.clients, "run.strict-privacy": False}
    return parse_config({**config.flat(), **_ASIDE, **everyone, **private})
