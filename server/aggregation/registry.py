"""The aggregation rules that give shares, by the names a configuration uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fnl.config.rules import WEIGHTINGS
from fnl.import_path import imported
from server.aggregation import afedsnn, weightings
from server.aggregation.interface import AggregationRule, Mixing
from server.declaration import Declared

AGGREGATION_RULES: dict[str, Declared[NDArray[np.float64] | Mixing]] = {
    name: Declared(rule, WEIGHTINGS[name])
    for family in (weightings, afedsnn)
    for name, rule in family.RULES.items()
}


def aggregation_rule(name: str) -> AggregationRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return AGGREGATION_RULES.get(name) or imported("coordination.aggregation", name)
