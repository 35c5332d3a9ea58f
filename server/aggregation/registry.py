"""The aggregation rules that give shares, by the names a configuration uses."""

from __future__ import annotations

from fnl.import_path import imported
from server.aggregation.afedsnn import afedsnn
from server.aggregation.interface import AggregationRule
from server.aggregation.robust import ROBUST_RULES
from server.aggregation.weightings import fedavg, inverse_rate, rate_weighted

AGGREGATION_RULES: dict[str, AggregationRule] = {
    "fedavg": fedavg,
    "rate-weighted": rate_weighted,
    "inverse-rate": inverse_rate,
    "afedsnn": afedsnn,
}

PUBLIC_AGGREGATIONS = frozenset({"fedavg", *ROBUST_RULES})
"""Rules that look at nothing but the models and the number of clips."""


def aggregation_rule(name: str) -> AggregationRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return AGGREGATION_RULES.get(name) or imported("coordination.aggregation", name)
