"""A guarantee as a curve: ε at several δ, and as Gaussian DP where that is exact.

One (ε, δ) is one point of what a mechanism hides. The curve tells the rest: a failure with
probability δ is another thing at 1e-3 than at 1e-8. Where every mechanism is a Gaussian one that
looks at all clips (q = 1), their composition is exactly that of one Gaussian: μ-GDP with
μ = √(Σ steps / σ²) (Dong, Roth & Su 2022, arXiv 1905.02383, corollary 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from fnl.privacy.ledger import Ledger, Spend

DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclass(frozen=True)
class Curve:
    """What one client has spent, or the most that any has.

    Attributes:
        epsilons: δ -> ε.
        mu: of Gaussian DP; None where mini-batches are sampled, of which it is no bound.
    """

    epsilons: dict[float, float]
    mu: float | None


def curve_of(ledger: Ledger, accountant: str) -> Curve:
    """Return the curve of a ledger that is not empty."""
    epsilons = {delta: ledger.epsilon(delta, accountant) for delta in DELTAS}
    whole = all(entry.sample_rate == 1 for entry in ledger.entries)
    mu = math.sqrt(sum(entry.steps / entry.noise_multiplier**2 for entry in ledger.entries))
    return Curve(epsilons, mu if whole else None)


def ledger_of(rows: pl.DataFrame, *, rate_clip_norm: float) -> Ledger:
    """Return the ledger of one client from its rows of `clients.parquet`.

    Args:
        rows: with noise_multiplier, sample_rate, steps, rate_noise and num_examples.
        rate_clip_norm: C_r of the releases of rates.
    """
    ledger = Ledger()
    for row in rows.iter_rows(named=True):
        ledger = ledger.spend(row["noise_multiplier"], row["sample_rate"], row["steps"])
        if row["rate_noise"] is not None:
            sigma = row["rate_noise"] * row["num_examples"] / rate_clip_norm
            ledger = ledger.spend(sigma, 1.0, 1)
    return ledger


_MOST = 500
"""Histories that are looked at: a curve takes milliseconds."""


def largest_curve(clients: pl.DataFrame, *, rate_clip_norm: float, accountant: str) -> Curve | None:
    """Return the largest ε of any client at each δ, and the largest μ.

    Who has spent most at one δ need not have at another. None where nobody has spent anything that
    the table tells of, where a ledger holds more than the table (rounds that were lost, or done
    twice with fresh noise), and where more than 500 clients have spent in ways of their own.
    """
    spent = clients.drop_nulls("epsilon")
    told: dict[tuple[Spend, ...], float] = {}
    for rows in spent.partition_by("partition", maintain_order=True):
        ledger = ledger_of(rows, rate_clip_norm=rate_clip_norm)
        last = rows.row(-1, named=True)
        if ledger.entries not in told:
            if len(told) == _MOST:
                return None
            told[ledger.entries] = ledger.epsilon(last["delta"], accountant)
        if not math.isclose(told[ledger.entries], last["epsilon"], rel_tol=0.01):
            return None
    curves = [curve_of(Ledger(entries), accountant) for entries in told]
    if not curves:
        return None
    mus = [curve.mu for curve in curves]
    return Curve(
        {delta: max(curve.epsilons[delta] for curve in curves) for delta in DELTAS},
        None if None in mus else max(mu for mu in mus if mu is not None),
    )
