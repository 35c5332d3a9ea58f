"""A client's privacy ledger: one accountant, composed over every round that touched its data.

The guarantee is record-level (ε, δ)-DP under add/remove of one clip: each entry is a number of
steps of the Poisson-subsampled Gaussian mechanism (Abadi et al. 2016, arXiv 1607.00133). The
analysis is Opacus': Rényi DP (Mironov, Talwar & Zhang 2019, arXiv 1908.10530) or privacy loss
distributions (PRV; Gopi, Lee & Wutschitz 2021, arXiv 2106.02848).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
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
        if not self.entries:
            return 0.0
        with _meant_by_opacus():
            if accountant == "rdp":
                rdp = np.zeros(len(RDP_ORDERS))
                for entry in self.entries:
                    rdp += entry.steps * _rdp_of_a_step(entry.sample_rate, entry.noise_multiplier)
                epsilon, _ = get_privacy_spent(orders=RDP_ORDERS, rdp=rdp.tolist(), delta=delta)
            else:
                composed = create_accountant(mechanism=accountant)
                composed.history = [
                    (e.noise_multiplier, e.sample_rate, e.steps) for e in self.entries
                ]
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


@lru_cache(maxsize=4096)
def _rdp_of_a_step(sample_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    rdp = compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=RDP_ORDERS)
    return np.asarray(rdp, dtype=np.float64)


@lru_cache(maxsize=4096)
def calibrate(
    *, epsilon: float, delta: float, sample_rate: float, steps: int, accountant: str = "rdp"
) -> float:
    """Return the smallest noise multiplier found whose `steps` steps cost at most `epsilon`.

    The cost is within 1 % of `epsilon`, never above it.

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
        cost = Ledger((Spend(high, sample_rate, steps),)).epsilon(delta, accountant)
    while epsilon - cost > 0.01 * epsilon:
        middle = (low + high) / 2
        at_middle = Ledger((Spend(middle, sample_rate, steps),)).epsilon(delta, accountant)
        if at_middle < epsilon:
            high, cost = middle, at_middle
        else:
            low = middle
    return high
