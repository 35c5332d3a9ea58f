"""How much noise a device adds, given what its clips have cost before, over all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fnl.config import Config
from fnl.errors import BudgetError, ConfigError
from fnl.privacy.budget import NEVER_ASKED, Budget, Noise, Workload
from fnl.privacy.ledger import Ledger

MOST_NOISE = 4.0
"""Times the noise of a first run, beyond which what is left of a budget is of no use."""


@dataclass(frozen=True)
class Limit:
    """The most that a device's clips may cost.

    Attributes:
        epsilon: the ε over all runs; inf: no limit.
        delta: the δ at which it is counted.
        name: what sets it, for messages.
    """

    epsilon: float
    delta: float
    name: str


def noise_beside(config: Config, work: Workload, earlier: Ledger, limits: Sequence[Limit]) -> Noise:
    """Return the least noise with which `work` on top of `earlier` keeps every limit.

    Args:
        config: of the run.
        work: what is left to do in this run.
        earlier: what the device's clips have cost before.
        limits: at least one of them finite.

    Raises:
        BudgetError: if that takes more than `MOST_NOISE` times the noise of a device that has
            spent nothing, or no noise does: what was spent, and what would be right.
        ConfigError: if no noise keeps a limit of a device that has spent nothing.
    """
    if not work.rounds:
        raise BudgetError(NEVER_ASKED)
    finite = [limit for limit in limits if math.isfinite(limit.epsilon)]
    noises = [_noise_within(config, work, earlier, limit) for limit in finite]
    rates = [noise.rates for noise in noises if noise.rates is not None]
    return Noise(max(noise.gradients for noise in noises), max(rates, default=None))


def _noise_within(config: Config, work: Workload, earlier: Ledger, limit: Limit) -> Noise:
    privacy = config.privacy
    budget = Budget(limit.epsilon, privacy.rate_epsilon, privacy.accountant)
    work = replace(work, delta=limit.delta)
    first = budget.noise_of(work)
    if not earlier.entries:
        return first
    try:
        noise = budget.noise_of(work, beside=earlier.entries)
    except ConfigError:
        noise = Noise(math.inf)
    if noise.gradients <= MOST_NOISE * first.gradients:
        return noise
    spent = earlier.epsilon(limit.delta, privacy.accountant)
    with_this_run = earlier.with_entries(first.of(work)).epsilon(limit.delta, privacy.accountant)
    raise BudgetError(
        f"{limit.name} = {limit.epsilon:g} is all but spent: these clips have cost {spent:.4g} at "
        f"delta = {limit.delta:g} over all runs before, and what is left would take more than "
        f"{MOST_NOISE:g} times the noise of a first run: {_round_up(with_this_run):g} would leave "
        "as much as then"
    )


def _round_up(epsilon: float) -> float:
    """Return `epsilon` rounded up to two digits."""
    if not 0 < epsilon < math.inf:
        return epsilon
    unit = 10.0 ** (math.floor(math.log10(epsilon)) - 1)
    return math.ceil(epsilon / unit) * unit
