"""By how much training moved a client's firing rates.

SFedCA (arXiv 2406.12200): score_k = Σ_c |r_{k,c}(θ_k) − r_{k,c}(θ)| over the classes the client
has, each client measured on its own clips with its own trained model. The signed rules prefer
clients whose rates rose; the scalar ones take the network's rate r_k over all clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.selection.interface import Scores, SelectionRule


def class_differences(report: ClientReport) -> Scores:
    """Return r_{k,c}(θ_k) − r_{k,c}(θ) by class, nan for a class without clips: float64 [C]."""
    return np.array(report.after.classes) - np.array(report.before.classes)


def rate_difference(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by Σ_c |r_{k,c}(θ_k) − r_{k,c}(θ)|."""
    return np.array(
        [np.nansum(np.abs(class_differences(report))) for report in reports], dtype=np.float64
    )


def signed_rate_difference(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by Σ_c (r_{k,c}(θ_k) − r_{k,c}(θ))."""
    return np.array([np.nansum(class_differences(report)) for report in reports])


def scalar_rate_difference(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by |r_k(θ_k) − r_k(θ)|."""
    return np.abs(signed_scalar_rate_difference(reports, context))


def signed_scalar_rate_difference(
    reports: Sequence[ClientReport], _context: RoundContext
) -> Scores:
    """Score by r_k(θ_k) − r_k(θ)."""
    return np.array([report.firing_rate_after - report.firing_rate_before for report in reports])


RULES: dict[str, SelectionRule] = {
    "rate-difference": rate_difference,
    "rate-difference-signed": signed_rate_difference,
    "rate-difference-scalar": scalar_rate_difference,
    "rate-difference-scalar-signed": signed_scalar_rate_difference,
}
