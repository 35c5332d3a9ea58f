"""Clients whose firing differs most from each other's, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.selection.interface import Selection, SelectionRule


def rate_diversity(reports: Sequence[ClientReport], context: RoundContext) -> Selection:
    """Select greedily: always the candidate farthest from its nearest selected one.

    Farthest-first traversal (Gonzalez 1985, "Clustering to minimize the maximum intercluster
    distance") of the rates per layer after training, in L2. The first is the one farthest from
    their mean. A score is the distance to the nearest selected one when a candidate was taken, or
    at the end if it was not; the first has that of the second.
    """
    profiles = np.array([report.after.layers for report in reports], dtype=np.float64)
    first = int(np.argmax(_distances(profiles, profiles.mean(0))))
    nearest = _distances(profiles, profiles[first])
    scores = nearest.copy()
    selected = [first]
    while len(selected) < context.count:
        left = nearest.copy()
        left[selected] = -1.0
        farthest = int(np.argmax(left))
        scores[farthest] = nearest[farthest]
        selected.append(farthest)
        nearest = np.minimum(nearest, _distances(profiles, profiles[farthest]))
    others = np.setdiff1d(np.arange(len(reports)), selected)
    scores[others] = nearest[others]
    scores[first] = scores[selected[1]] if len(selected) > 1 else scores.max()
    return Selection(scores, np.array(selected, dtype=np.int64))


def _distances(profiles: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.linalg.norm(profiles - point, axis=1)


RULES: dict[str, SelectionRule] = {"rate-diversity": rate_diversity}
