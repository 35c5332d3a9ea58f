"""Selection rules: whose update is taken.

A rule is a function of the candidates' reports, in partition order, and of a `RoundContext`. It
returns one score a candidate, and the largest are selected, or a `Selection` where scores alone do
not say whom, or where the rule remembers something for later rounds. A rule of one's own is named
`module:function` in `coordination.selection` and declares with `@reads(...)` what it reads of a
report. What `coordination.estimate` and `coordination.max-share` ask for works on any rule's
scores or selection.
"""

from server.declaration import reads
from server.selection.choice import Scores, Selection, SelectionRule, select, within_share
from server.selection.estimate import estimated
from server.selection.rules import SELECTION_RULES, selection_rule

__all__ = [
    "SELECTION_RULES",
    "Scores",
    "Selection",
    "SelectionRule",
    "estimated",
    "reads",
    "select",
    "selection_rule",
    "within_share",
]
