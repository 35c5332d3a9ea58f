"""How much noise a device adds, given what its clips have cost before, over all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fnl.config import Config
from fnl.errors import BudgetError, ConfigError
from fnl.privacy.budget import NEVER_ASKED, Budget, Noise, Workload
from fnl.privacy.ledger import Accountant, Ledger

MOST_NOISE = 4.0
"""Times the noise of a first run, beyond which what is left of a budget is of no use."""


@dataclass(frozen=True)
class Limit:
    """The most that a device's clips may cost.

    Attributes:
        epsilon: the ε over all runs; inf: no limit.
        delta: the δ at which it is counted.
        name: what sets it, for messages.
        accountant: by which it is counted.
    """

    epsilon: float
    delta: float
    name: str
    accountant: Accountant = "rdp"

    def cost(self, ledger: Ledger) -> float:
        """Return ε of `ledger` as this limit counts it."""
        return ledger.epsilon(self.delta, self.accountant)

    def check(self, ledger: Ledger) -> None:
        """Refuse if `ledger` costs more.

        Raises:
            BudgetError: with what it costs and the limit.
        """
        if math.isfinite(self.epsilon) and (cost := self.cost(ledger)) > self.epsilon:
            raise BudgetError(
                f"{self.name} = {self.epsilon:g} would be overdrawn: with this round these clips "
                f"would have cost {cost:.4g} at delta = {self.delta:g} over all runs"
            )


def noise_beside(config: Config, work: Workload, earlier: Ledger, limits: Sequence[Limit]) -> Noise:
    """Return the least noise with which `work` on top of `earlier` keeps every limit.

    Releases of rates get the noise that the run asks for, gradients what is left.

    Args:
        config: of the run.
        work: what is left to do in this run.
        earlier: what the device's clips have cost before.
        limits: at least one of them finite.

    Raises:
        BudgetError: if that takes more than `MOST_NOISE` times the noise of a device that has
            spent nothing, or no noise does: what was spent, and what would be right.
        ConfigError: if no noise of the rates keeps their own part.
    """
    if not work.rounds:
        raise BudgetError(NEVER_ASKED)
    privacy = config.privacy
    rates = Budget(privacy.epsilon, config.rate_epsilon, privacy.accountant).rate_noise(work)
    finite = [limit for limit in limits if math.isfinite(limit.epsilon)]
    return Noise(max(_gradients(work, rates, earlier, limit) for limit in finite), rates)


def _gradients(work: Workload, rates: float | None, earlier: Ledger, limit: Limit) -> float:
    budget = Budget(limit.epsilon, accountant=limit.accountant)
    work = replace(work, delta=limit.delta)
    try:
        first = budget.gradient_noise(work, rates)
    except ConfigError:
        raise BudgetError(
            f"{limit.name} = {limit.epsilon:g} at delta = {limit.delta:g} cannot be kept in this "
            f"run of {work.rounds} rounds"
            + ("" if rates is None else " beside the releases of privacy.rate-epsilon")
            + ": lower that, or train less"
        ) from None
    if not earlier.entries:
        return first
    try:
        noise = budget.gradient_noise(work, rates, earlier.entries)
    except ConfigError:
        noise = math.inf
    if noise <= MOST_NOISE * first:
        return noise
    with_this_run = limit.cost(earlier.with_entries(Noise(first, rates).of(work)))
    raise BudgetError(
        f"{limit.name} = {limit.epsilon:g} is all but spent: these clips have cost "
        f"{limit.cost(earlier):.4g} at delta = {limit.delta:g} over all runs before, and what is "
        f"left would take more than {MOST_NOISE:g} times the noise of a first run: "
        f"{_round_up(with_this_run):g} would leave as much as then"
    )


def _round_up(epsilon: float) -> float:
    """Return `epsilon` rounded up to two digits."""
    if not 0 < epsilon < math.inf:
        return epsilon
    unit = 10.0 ** (math.floor(math.log10(epsilon)) - 1)
    return math.ceil(epsilon / unit) * unit
