"""A client's privacy ledger: one accountant, composed over every round that touched its data.

The guarantee is record-level (ε, δ)-DP under add/remove of one clip: each entry is a number of
steps of the Poisson-subsampled Gaussian mechanism (Abadi et al. 2016, arXiv 1607.00133). A step of
DP-SGD is one at the sampling rate of its mini-batches; a release of rates, which looks at every
clip, is one at sampling rate 1. Noise and sampling rate may change from entry to entry. The
analysis is Opacus' Rényi DP (Mironov, Talwar & Zhang 2019, arXiv 1908.10530) or privacy loss
distributions (`prv.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from opacus.accountants.utils import MAX_SIGMA

from fnl.errors import ConfigError
from fnl.privacy.prv import EPS_ERROR, History, prv_epsilon

RDP_ORDERS: list[float] = [
    *RDPAccountant.DEFAULT_ALPHAS,
    *(64.0, 96.0, 128.0, 256.0, 512.0, 1024.0),
]
"""Opacus' orders, and larger ones so that small ε is not overstated. Any set of orders is sound."""
_TOLERANCE = 0.01
"""Part of a budget that calibration may leave."""
_NARROW = 1e-4
"""Of a noise multiplier: closer it is not looked for."""


@dataclass(frozen=True)
class Spend:
    """`steps` steps of the subsampled Gaussian mechanism."""

    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True)
class FixedOrder:
    """An accountant that looks at one order of Rényi DP: see `fnl.privacy.filter` for what it is.

    Attributes:
        order: α, above 1.
    """

    order: float


Accountant = str | FixedOrder
"""How a ledger is counted: "rdp" (the best order), "prv", or one order."""


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

    @property
    def history(self) -> History:
        """(noise multiplier, sampling rate, steps) of each mechanism: composition has no order."""
        steps: dict[tuple[float, float], int] = {}
        for entry in self.entries:
            mechanism = (entry.noise_multiplier, entry.sample_rate)
            steps[mechanism] = steps.get(mechanism, 0) + entry.steps
        return tuple((sigma, rate, count) for (sigma, rate), count in steps.items())

    def epsilon(self, delta: float, accountant: Accountant = "rdp") -> float:
        """Return ε at `delta` of everything spent; 0 for an empty ledger, inf without a bound.

        Args:
            delta: δ.
            accountant: "rdp", "prv" or one order of Rényi DP.
        """
        if not self.entries:
            return 0.0
        return _epsilon(self.history, delta, accountant)

    def with_entries(self, spends: Iterable[Spend]) -> Ledger:
        """Return the ledger after all of `spends`."""
        ledger = self
        for entry in spends:
            ledger = ledger.spend(entry.noise_multiplier, entry.sample_rate, entry.steps)
        return ledger

    def would_exceed(
        self,
        budget: float,
        spends: Iterable[Spend],
        *,
        delta: float,
        accountant: Accountant = "rdp",
    ) -> bool:
        """Return whether `spends` on top of everything spent would cost more than ε = `budget`."""
        return self.with_entries(spends).epsilon(delta, accountant) > budget


@lru_cache(maxsize=4096)
def _epsilon(history: History, delta: float, accountant: Accountant) -> float:
    """Return ε of `history`, composed."""
    with _meant_by_opacus():
        if isinstance(accountant, FixedOrder):
            order = accountant.order
            epsilon = _divergence(history, order) + conversion(order, delta)
        elif accountant == "rdp":
            epsilon = _least_over_orders(history, delta)
        elif accountant == "prv":
            epsilon = prv_epsilon(history, delta)
        else:
            raise ValueError(f"no accountant {accountant!r}: rdp and prv are there")
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


def _least_over_orders(history: History, delta: float) -> float:
    """Return the least ε that any of `RDP_ORDERS` gives.

    ε falls and then rises with the order ((α − 1) times the Rényi divergence is convex in α), so
    bisection finds the least without the analysis of most orders, which is what accounting costs.
    At any order ε is a bound, were it not the least.
    """

    def at(index: int) -> float:
        order = RDP_ORDERS[index]
        epsilon = _divergence(history, order) + conversion(order, delta)
        return math.inf if math.isnan(epsilon) else epsilon

    low, high = 0, len(RDP_ORDERS) - 1
    while low < high:
        middle = (low + high) // 2
        if at(middle) <= at(middle + 1):  # where both are infinite, the order is too large
            high = middle
        else:
            low = middle + 1
    best = RDP_ORDERS[low]
    return float(get_privacy_spent(orders=[best], rdp=[_divergence(history, best)], delta=delta)[0])


def conversion(order: float, delta: float) -> float:
    """Return what ε at `delta` has on top of the Rényi divergence of `order`; it may be negative.

    Canonne, Kamath & Steinke 2020 (arXiv 2004.00010, proposition 12), as in Opacus.
    """
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _divergence(history: History, order: float) -> float:
    """Return the Rényi divergence of `order` of everything in `history`: it adds up."""
    total = 0.0
    for noise_multiplier, sample_rate, steps in history:
        total += steps * _rdp_of_a_step(sample_rate, noise_multiplier, order)
    return total


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
    accountant: Accountant = "rdp",
    beside: tuple[Spend, ...] = (),
    keys: tuple[str, str] = ("privacy.epsilon", "privacy.delta"),
) -> float:
    """Return the smallest noise multiplier found whose `steps` steps cost at most `epsilon`.

    The cost, that of the spends `beside` them included, is within 1 % of `epsilon`, never above it.
    PRV leaves its error: so much may a part of the steps seem to cost more than the whole.
    `keys` are those that set `epsilon` and `delta`, for messages.

    Raises:
        ConfigError: if no noise multiplier up to Opacus' largest keeps the budget.
    """

    def cost(sigma: float) -> float:
        return Ledger((Spend(sigma, sample_rate, steps), *beside)).epsilon(delta, accountant)

    found = _search(epsilon - (EPS_ERROR if accountant == "prv" else 0), cost)
    if found is None:
        raise ConfigError(
            f"{keys[0]} = {epsilon} cannot be kept over {steps} steps at sampling rate "
            f"{sample_rate:.3g} and {keys[1]} = {delta}: raise it or train less"
        )
    return found


def _search(epsilon: float, cost_at: Callable[[float], float]) -> float | None:
    """Return a noise multiplier that costs `epsilon` or little less; None if none does.

    The search of Opacus' get_noise_multiplier, with the analysis of a step kept between calls:
    clients that differ in planned rounds alone try the same noise.
    """
    low, high, cost = 0.0, 10.0, math.inf
    while cost > epsilon:
        high *= 2
        if high > MAX_SIGMA:
            return None
        cost = cost_at(high)
    # where ε jumps, because an accountant cannot state it below some noise, no noise costs nearly ε
    while epsilon - cost > _TOLERANCE * epsilon and high - low > _NARROW * high:
        middle = (low + high) / 2
        at_middle = cost_at(middle)
        if at_middle < epsilon:
            high, cost = middle, at_middle
        else:
            low = middle
    return high
