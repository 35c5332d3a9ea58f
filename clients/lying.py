"""A client that lies, for simulations: what `coordination.liars` makes of an honest round.

Nothing proves a rate. A liar reports whatever the selection rule likes best, so as to be selected,
and sends its update with the sign turned, at its honest length: no bound on lengths stops it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fnl.config import Config
from fnl.training.local import LocalRound
from fnl.weights import Weights
from fnl.wire.report import Rates

_LARGE = 1e3
"""A loss and a length that no honest client reaches."""


def as_sent(config: Config, outcome: LocalRound, before: Weights) -> LocalRound:
    """Return what a simulated client sends of its round: `outcome`, if it does not lie.

    Args:
        config: of the run.
        outcome: of its honest round.
        before: the round's global model.
    """
    report = outcome.report
    if report.partition not in config.coordination.lying:
        return outcome
    rule = config.coordination.selection
    wanted = {"lowest-rate": 0.0, "target-rate": config.coordination.target_rate}.get(rule, 1.0)
    # a change of the global model's rate is as large as the rate says in every other round
    start = 1.0 if rule == "highest-rate-global" else 0.0
    told = replace(
        report,
        before=_rates(report.before, start),
        after=_rates(report.after, wanted),
        loss_before=None if report.loss_before is None else _LARGE,
        update_norm=None if report.update_norm is None else _LARGE,
    )
    turned = {name: 2 * before[name] - array for name, array in outcome.weights.items()}
    return replace(outcome, report=told, weights=turned)


def _rates(honest: Rates, value: float) -> Rates:
    """Return `value` for every rate, but where a client sends none."""
    if math.isnan(honest.firing_rate):
        return honest
    return Rates(value, [value] * len(honest.layers), [value] * len(honest.classes))
