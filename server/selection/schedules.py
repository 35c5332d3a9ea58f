"""Rules that look at no report: chance, and turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.selection.interface import Scores, SelectionRule


def random_scores(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score uniformly at random: the selected are a uniform sample of the candidates."""
    return context.stream.random(len(reports))


def round_robin(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by the rounds since a client was selected; among equals the less often selected.

    A client that never was has waited since the start. The score is the rounds waited less a part
    of one: times selected over one more than the largest such count.
    """
    partitions = [report.partition for report in reports]
    waited = np.array([context.rounds_since_selected(partition) for partition in partitions])
    times = context.history.times_selected
    return waited - times[partitions] / (times.max() + 1)


RULES: dict[str, SelectionRule] = {"random": random_scores, "round-robin": round_robin}
