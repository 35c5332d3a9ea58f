"""By the model's loss on a client's clips, or by the size of its update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.selection.interface import Scores, SelectionRule


def highest_loss(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by the global model's loss on the client's clips before training.

    Power-of-choice (Cho, Wang & Joshi 2020, arXiv 2010.01243): of d candidates the m with the
    largest local loss. Theirs are drawn ∝ n_k, ours uniformly from the public schedule.
    """
    return np.array([report.loss_before for report in reports], dtype=np.float64)


def largest_update(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by ‖θ_k − θ‖₂ (Chen, Horváth & Richtárik 2020, arXiv 2010.13723, in its limit)."""
    return np.array([report.update_norm for report in reports], dtype=np.float64)


RULES: dict[str, SelectionRule] = {"loss": highest_loss, "update-norm": largest_update}
