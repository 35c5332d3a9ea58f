"""A client's privacy ledger: one accountant, composed over every round that touched its data.

The guarantee is record-level (ε, δ)-DP under add/remove of one clip: each entry is a number of
steps of the Poisson-subsampled Gaussian mechanism (Abadi et al. 2016, arXiv 1607.00133). A step of
DP-SGD is one at the sampling rate of its mini-batches; a release of rates, which looks at every
clip, is one at sampling rate 1. Noise and sampling rate may change from entry to entry. The
analysis is Opacus': Rényi DP (Mironov, Talwar & Zhang 2019, arXiv 1908.10530) or privacy loss
distributions (PRV; Gopi, Lee & Wutschitz 2021, arXiv 2106.02848).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from opacus.accountants import RDPAccountant, create_accountant
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from opacus.accountants.utils import MAX_SIGMA

from fnl.errors import ConfigError

RDP_ORDERS: list[float] = [
    *RDPAccountant.DEFAULT_ALPHAS,
    *(64.0, 96.0, 128.0, 256.0, 512.0, 1024.0),
]
"""Opacus' orders, and larger ones so that small ε is not overstated. Any set of orders is sound."""


@dataclass(frozen=True)
class Spend:
    """`steps` steps of the subsampled Gaussian mechanism."""

    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True)
class Ledger:
    """What a client has spent so far, in order. Immutable: `spend` returns a new ledger."""

    entries: tuple[Spend, ...] = ()

    def spend(self, noise_multiplier: float, sample_rate: float, steps: int) -> Ledger:
        """Return the ledger after `steps` further steps; equal neighbours are merged.

        Raises:
            ValueError: if a value is outside the mechanism's range.
        """
        in_range = 0 < noise_multiplier < math.inf and 0 < sample_rate <= 1 and steps >= 1
        if not in_range:  # as it is for nan
            raise ValueError(
                "a ledger takes a finite noise_multiplier > 0, 0 < sample_rate <= 1 and "
                f"steps >= 1, got {noise_multiplier}, {sample_rate} and {steps}"
            )
        last = self.entries[-1] if self.entries else None
        if last and (last.noise_multiplier, last.sample_rate) == (noise_multiplier, sample_rate):
            merged = Spend(noise_multiplier, sample_rate, last.steps + steps)
            return Ledger((*self.entries[:-1], merged))
        return Ledger((*self.entries, Spend(noise_multiplier, sample_rate, steps)))

    @property
    def steps(self) -> int:
        """Steps over all entries."""
        return sum(entry.steps for entry in self.entries)

    def epsilon(self, delta: float, accountant: str = "rdp") -> float:
        """Return ε at `delta` of everything spent; 0 for an empty ledger, inf without a bound."""
        steps: dict[tuple[float, float], int] = {}
        for entry in self.entries:  # composition has no order: equal mechanisms count together
            mechanism = (entry.noise_multiplier, entry.sample_rate)
            steps[mechanism] = steps.get(mechanism, 0) + entry.steps
        composed = tuple((sigma, rate, count) for (sigma, rate), count in steps.items())
        return _epsilon(composed, delta, accountant) if composed else 0.0

    def with_entries(self, spends: Iterable[Spend]) -> Ledger:
        """Return the ledger after all of `spends`."""
        ledger = self
        for entry in spends:
            ledger = ledger.spend(entry.noise_multiplier, entry.sample_rate, entry.steps)
        return ledger

    def would_exceed(
        self, budget: float, spends: Iterable[Spend], *, delta: float, accountant: str = "rdp"
    ) -> bool:
        """Return whether `spends` on top of everything spent would cost more than ε = `budget`."""
        return self.with_entries(spends).epsilon(delta, accountant) > budget


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float, accountant: str) -> float:
    """Return ε of (noise multiplier, sampling rate, steps), composed."""
    with _meant_by_opacus():
        if accountant == "rdp":
            epsilon = _least_over_orders(history, delta)
        else:
            composed = create_accountant(mechanism=accountant)
            composed.history = list(history)
            epsilon = composed.get_epsilon(delta=delta)
    if math.isnan(epsilon):
        return math.inf
    # the bound from Rényi DP falls below zero where the loss is all but nothing
    return max(float(epsilon), 0.0)


@contextmanager
def _meant_by_opacus() -> Iterator[None]:
    """Silence what Opacus' analysis warns of where its bound holds all the same.

    The best of the orders is the first or last, or log(1 - q) is taken at q = 1.
    """
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.filterwarnings("ignore", message="Optimal order is the", module="opacus")
        yield


def _least_over_orders(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """Return the least ε that any of `RDP_ORDERS` gives.

    ε falls and then rises with the order ((α − 1) times the Rényi divergence is convex in α), so
    bisection finds the least without the analysis of most orders, which is what accounting costs.
    At any order ε is a bound, were it not the least.
    """

    def divergence(order: float) -> float:
        total = 0.0
        for noise_multiplier, sample_rate, steps in history:
            total += steps * _rdp_of_a_step(sample_rate, noise_multiplier, order)
        return total

    def at(index: int) -> float:  # what Opacus' get_privacy_spent computes, without its checks
        order = RDP_ORDERS[index]
        gained = (math.log(delta) + math.log(order)) / (order - 1) - math.log1p(-1 / order)
        epsilon = divergence(order) - gained
        return math.inf if math.isnan(epsilon) else epsilon

    low, high = 0, len(RDP_ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        if at(middle) <= at(middle + 1):  # where both are infinite, the order is too large
            high = middle
        else:
            low = middle + 1
    best = RDP_ORDERS[low]
    return float(get_privacy_spent(orders=[best], rdp=[divergence(best)], delta=delta)[0])


@lru_cache(maxsize=65536)
def _rdp_of_a_step(sample_rate: float, noise_multiplier: float, order: float) -> float:
    rdp = compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=[order])
    return float(np.asarray(rdp).item())


@lru_cache(maxsize=4096)
def calibrate(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = "rdp",
    beside: tuple[Spend, ...] = (),
) -> float:
    """Return the smallest noise multiplier found whose `steps` steps cost at most `epsilon`.

    The cost, that of the spends `beside` them included, is within 1 % of `epsilon`, never above it.

    Raises:
        ConfigError: if no noise multiplier up to Opacus' largest keeps the budget.
    """
    # the search of Opacus' get_noise_multiplier, with the analysis of a step kept between calls:
    # clients that differ in planned rounds alone try the same noise
    low, high, cost = 0.0, 10.0, math.inf
    while cost > epsilon:
        high *= 2
        if high > MAX_SIGMA:
            raise ConfigError(
                f"privacy.epsilon = {epsilon} cannot be kept over {steps} steps at sampling rate "
                f"{sample_rate:.3g} and privacy.delta = {delta}: raise it or train less"
            )
        cost = Ledger((Spend(high, sample_rate, steps), *beside)).epsilon(delta, accountant)
    while epsilon - cost > 0.01 * epsilon:
        middle = (low + high) / 2
        tried = Ledger((Spend(middle, sample_rate, steps), *beside))
        at_middle = tried.epsilon(delta, accountant)
        if at_middle < epsilon:
            high, cost = middle, at_middle
        else:
            low = middle
    return high
