"""Aggregation rules: from the selected models to the next global one.

A rule is a function of the selected clients' reports and of a `RoundContext`. It returns one weight
a client, in any scale, or a `Mixing` of shares that need not sum to one. A rule of one's own is
named `module:function` in `coordination.aggregation` and declares with `@reads(...)` what it reads
of a report. Rules that combine the models themselves (`ROBUST_RULES`) and server optimizers are
Flower's.
"""

from server.aggregation.flower import ROBUST_RULES, OptimizerState, server_step
from server.aggregation.rules import AGGREGATION_RULES, aggregation_rule
from server.aggregation.shares import AggregationRule, Mixing, Shares, combine, shares_of
from server.declaration import reads

__all__ = [
    "AGGREGATION_RULES",
    "ROBUST_RULES",
    "AggregationRule",
    "Mixing",
    "OptimizerState",
    "Shares",
    "aggregation_rule",
    "combine",
    "reads",
    "server_step",
    "shares_of",
]
