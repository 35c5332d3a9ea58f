"""The selection rules by the names a configuration uses."""

from __future__ import annotations

from fnl.config.rules import SELECTIONS
from fnl.import_path import imported
from server.declaration import Declared
from server.selection import diversity, rate_differences, rate_levels, schedules, updates
from server.selection.interface import Scores, Selection, SelectionRule

SELECTION_RULES: dict[str, Declared[Scores | Selection]] = {
    name: Declared(rule, SELECTIONS[name])
    for family in (schedules, rate_differences, rate_levels, diversity, updates)
    for name, rule in family.RULES.items()
}


def selection_rule(name: str) -> SelectionRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return SELECTION_RULES.get(name) or imported("coordination.selection", name)
