"""The selection rules by the names a configuration uses."""

from __future__ import annotations

from fnl.import_path import imported
from server.selection.diversity import rate_diversity
from server.selection.interface import SelectionRule
from server.selection.rate_differences import (
    rate_difference,
    scalar_rate_difference,
    signed_rate_difference,
    signed_scalar_rate_difference,
)
from server.selection.rate_levels import highest_rate, lowest_rate, rate_proportional, target_rate
from server.selection.schedules import random_scores, round_robin
from server.selection.updates import highest_loss, largest_update

SELECTION_RULES: dict[str, SelectionRule] = {
    "random": random_scores,
    "round-robin": round_robin,
    "rate-difference": rate_difference,
    "rate-difference-signed": signed_rate_difference,
    "rate-difference-scalar": scalar_rate_difference,
    "rate-difference-scalar-signed": signed_scalar_rate_difference,
    "highest-rate": highest_rate,
    "lowest-rate": lowest_rate,
    "target-rate": target_rate,
    "rate-proportional": rate_proportional,
    "rate-diversity": rate_diversity,
    "loss": highest_loss,
    "update-norm": largest_update,
}

PUBLIC_SELECTIONS = frozenset({"random", "round-robin", "update-norm"})
"""Rules that look at nothing, or at what follows from the weights a client sends anyway."""


def selection_rule(name: str) -> SelectionRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return SELECTION_RULES.get(name) or imported("coordination.selection", name)
