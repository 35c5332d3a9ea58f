"""The built-in aggregation rules that give shares: by clips, by firing rate, and AFedSNN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fnl.config.rules import WEIGHTINGS
from fnl.import_path import imported
from fnl.wire.report import ClientReport
from server.aggregation.shares import AggregationRule, Mixing
from server.context import RoundContext
from server.declaration import Declared


def fedavg(reports: Sequence[ClientReport], _context: RoundContext) -> NDArray[np.float64]:
    """Weigh by the number of clips: w_k ∝ n_k (McMahan et al. 2017, arXiv 1602.05629)."""
    return np.array([report.num_examples for report in reports], dtype=np.float64)


def rate_weighted(reports: Sequence[ClientReport], _context: RoundContext) -> NDArray[np.float64]:
    """Weigh by clips and firing rate: w_k ∝ n_k r_k, r_k after training on the client's clips."""
    return np.array([report.num_examples * report.firing_rate_after for report in reports])


def rate_shrunk(reports: Sequence[ClientReport], context: RoundContext) -> NDArray[np.float64]:
    """Weigh by w_k ∝ n_k r̂_k, r_k drawn to the mean as it is noisy: `fedavg` where noise hides all.

    r̂_k is the rate drawn towards the candidates' mean by S²/(S² + s_k²), S² the variance of the
    candidates' rates beyond noise and s_k² that of the noise on its own (empirical Bayes).
    """
    noise = context.noise
    candidates = np.array([report.firing_rate_after for report in context.candidates])
    known = [noise.variance_of_rate(report) for report in context.candidates]
    spread = float(candidates.var(ddof=1)) if len(candidates) > 1 else 0.0
    signal, mean = max(0.0, spread - float(np.mean(known))), float(candidates.mean())
    weights = []
    for report in reports:
        own = noise.variance_of_rate(report)
        heard = signal / (signal + own) if signal > 0 else 0.0
        weights.append(report.num_examples * (mean + heard * (report.firing_rate_after - mean)))
    return np.array(weights)


def inverse_rate(reports: Sequence[ClientReport], context: RoundContext) -> NDArray[np.float64]:
    """Weigh sparse clients up: w_k ∝ n_k / (r_k + ε), ε = `coordination.rate-offset`."""
    offset = context.settings.rate_offset
    return np.array(
        [report.num_examples / (report.firing_rate_after + offset) for report in reports]
    )


def mixing_coefficients(
    reports: Sequence[ClientReport], context: RoundContext
) -> NDArray[np.float64]:
    """Return α_k of the selected clients, float64 [m] in [0, 1].

    α_k = min(1, κ · 1/(1 + e^{age_k}) · n_k/n · exp(−(r_k − μ)²/2σ²)), with n, μ and σ over the
    round's candidates (Wang, Duan & Chen 2023, doi 10.1016/j.neucom.2023.126686). Theirs is
    asynchronous; here every candidate starts from the current model, and a client's age is the
    number of rounds that passed since its update last entered the global model: 0 for the round
    before, and all rounds so far if it never did.
    """
    candidates = np.array([report.firing_rate_after for report in context.candidates])
    clips = sum(report.num_examples for report in context.candidates)
    mean, deviation = candidates.mean(), candidates.std()
    rates = np.array([report.firing_rate_after for report in reports])
    ages = np.array([context.rounds_since_selected(report.partition) - 1 for report in reports])
    parts = np.array([report.num_examples for report in reports]) / clips
    # of equal rates the deviation is 0 only up to rounding
    offsets = (rates - mean) / deviation if np.ptp(candidates) > 0 else np.zeros_like(rates)
    likeness = np.exp(-(offsets**2) / 2)
    return np.minimum(1.0, context.settings.mixing * expit(-ages) * parts * likeness)


def afedsnn(reports: Sequence[ClientReport], context: RoundContext) -> Mixing:
    """Mix in by information age, not normalised: θ ← (1 − α_k)θ + α_k θ_k in partition order.

    Unrolled, θ_k has the share α_k Π_{j after k} (1 − α_j).
    """
    alphas = mixing_coefficients(reports, context)
    in_turn = np.argsort([report.partition for report in reports])
    shares = np.empty_like(alphas)
    left = 1.0
    for position in in_turn[::-1]:
        shares[position] = alphas[position] * left
        left *= 1.0 - alphas[position]
    return Mixing(shares)


_RULES: dict[str, AggregationRule] = {
    "fedavg": fedavg,
    "rate-weighted": rate_weighted,
    "rate-shrunk": rate_shrunk,
    "inverse-rate": inverse_rate,
    "afedsnn": afedsnn,
}

AGGREGATION_RULES: dict[str, Declared[NDArray[np.float64] | Mixing]] = {
    name: Declared(rule, WEIGHTINGS[name]) for name, rule in _RULES.items()
}
"""The rules by the names a configuration uses."""


def aggregation_rule(name: str) -> AggregationRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return AGGREGATION_RULES.get(name) or imported("coordination.aggregation", name)
