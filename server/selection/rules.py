"""The built-in selection rules, by family: chance and turns, rates that moved, rates, others.

Rates moved by training are SFedCA's (arXiv 2406.12200): each client is measured on its own clips
with its own trained model. The signed rules prefer clients whose rates rose; the scalar ones take
the network's rate r_k over all clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fnl.config.rules import SELECTIONS
from fnl.import_path import imported
from fnl.metrics.ranking import order
from fnl.wire.report import ClientReport
from server.context import RoundContext
from server.declaration import Declared
from server.selection.choice import Scores, Selection, SelectionRule

_NEVER = 1e-300
"""In place of a rate of 0: behind every client that fires, and the score stays finite."""


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


def class_differences(report: ClientReport) -> Scores:
    """Return r_{k,c}(θ_k) − r_{k,c}(θ) by class, nan for a class without clips: float64 [C]."""
    return np.array(report.after.classes) - np.array(report.before.classes)


def rate_difference(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by Σ_c |r_{k,c}(θ_k) − r_{k,c}(θ)|, the change of rates without sign (SFedCA)."""
    return np.array(
        [np.nansum(np.abs(class_differences(report))) for report in reports], dtype=np.float64
    )


def debiased_rate_difference(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by Σ_c |r_{k,c}(θ_k) − r_{k,c}(θ)| less what noise alone makes of it on average.

    E|N(0, s²)| = s√(2/π) for each class that the client has; s is the deviation of the change of
    its rate, known from what is public. Else the noisier of two clients seems to have moved more.
    """
    return np.array([_beyond_noise(report, context) for report in reports], dtype=np.float64)


def _beyond_noise(report: ClientReport, context: RoundContext) -> float:
    changes = class_differences(report)
    deviation = math.hypot(*context.noise.in_class(report, len(changes)))
    return float(np.nansum(np.abs(changes) - deviation * math.sqrt(2 / math.pi)))


def signed_rate_difference(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by Σ_c (r_{k,c}(θ_k) − r_{k,c}(θ)), the change with its sign."""
    return np.array([np.nansum(class_differences(report)) for report in reports])


def scalar_rate_difference(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by |r_k(θ_k) − r_k(θ)|."""
    return np.abs(signed_scalar_rate_difference(reports, context))


def signed_scalar_rate_difference(
    reports: Sequence[ClientReport], _context: RoundContext
) -> Scores:
    """Score by r_k(θ_k) − r_k(θ)."""
    return np.array([report.firing_rate_after - report.firing_rate_before for report in reports])


def highest_rate(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by r_k(θ_k): the most active clients."""
    return _rates(reports)


def lowest_rate(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by −r_k(θ_k): the sparsest clients."""
    return -_rates(reports)


def highest_global_rate(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by r_k(θ), the global model's rate, which noise of the client's training cannot reach.

    Only that of the release, if there is one, is in it.
    """
    return np.array([report.firing_rate_before for report in reports], dtype=np.float64)


def global_rate_change(reports: Sequence[ClientReport], context: RoundContext) -> Selection:
    """Score by |r_k(θ) − r_k(θ')|, θ' the global model when the client was last a candidate.

    Who is asked for the first time has the largest score of the others, so that it is heard.
    """
    before, clients = context.history.memory, len(context.history.times_selected)
    last = before.get("rate", np.zeros(clients)).copy()
    seen = before.get("rate-seen", np.zeros(clients)).copy()
    partitions = np.array([report.partition for report in reports])
    rates = np.array([report.firing_rate_before for report in reports], dtype=np.float64)
    known = seen[partitions] > 0
    scores = np.abs(rates - last[partitions])
    scores[~known] = scores[known].max(initial=0.0)
    last[partitions], seen[partitions] = rates, 1.0
    best = order(scores)[: context.count]
    return Selection(scores, best, memory={"rate": last, "rate-seen": seen})


def target_rate(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Score by minus the distance of r_k(θ_k) from the band around `coordination.target-rate`.

    −max(0, |r − target| − band): within `coordination.rate-band` all are equal.
    """
    settings = context.settings
    distance = np.abs(_rates(reports) - settings.target_rate)
    return -np.maximum(0.0, distance - settings.rate_band)


def rate_proportional(reports: Sequence[ClientReport], context: RoundContext) -> Scores:
    """Draw without replacement, each time with probability ∝ r_k(θ_k) of those left.

    The m smallest of independent exponential times E_k / r_k are such a sample; the score is minus
    the time (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir", whose keys
    u^(1/r) order the same way but underflow for small rates).
    """
    times = context.stream.exponential(size=len(reports))
    return -times / np.maximum(_rates(reports), _NEVER)


def rate_diversity(reports: Sequence[ClientReport], context: RoundContext) -> Selection:
    """Select greedily: always who is farthest, in rates per layer, from the nearest selected one.

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


def highest_loss(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by the global model's loss on the client's clips before training (power-of-choice).

    Cho, Wang & Joshi 2020 (arXiv 2010.01243): of d candidates the m with the
    largest local loss. Theirs are drawn ∝ n_k, ours uniformly from the public schedule.
    """
    return np.array([report.loss_before for report in reports], dtype=np.float64)


def largest_update(reports: Sequence[ClientReport], _context: RoundContext) -> Scores:
    """Score by ‖θ_k − θ‖₂ (Chen, Horváth & Richtárik 2020, arXiv 2010.13723, in its limit)."""
    return np.array([report.update_norm for report in reports], dtype=np.float64)


def _rates(reports: Sequence[ClientReport]) -> Scores:
    return np.array([report.firing_rate_after for report in reports], dtype=np.float64)


def _distances(profiles: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.linalg.norm(profiles - point, axis=1)


_RULES: dict[str, SelectionRule] = {
    "random": random_scores,
    "round-robin": round_robin,
    "rate-difference": rate_difference,
    "rate-difference-debiased": debiased_rate_difference,
    "rate-difference-signed": signed_rate_difference,
    "rate-difference-scalar": scalar_rate_difference,
    "rate-difference-scalar-signed": signed_scalar_rate_difference,
    "highest-rate": highest_rate,
    "lowest-rate": lowest_rate,
    "highest-rate-global": highest_global_rate,
    "rate-change-global": global_rate_change,
    "target-rate": target_rate,
    "rate-proportional": rate_proportional,
    "rate-diversity": rate_diversity,
    "loss": highest_loss,
    "update-norm": largest_update,
}

SELECTION_RULES: dict[str, Declared[Scores | Selection]] = {
    name: Declared(rule, SELECTIONS[name]) for name, rule in _RULES.items()
}
"""The rules by the names a configuration uses."""


def selection_rule(name: str) -> SelectionRule:
    """Return the rule `name`, or the user's own if it is an import path.

    Raises:
        ConfigError: if there is no such module or function.
    """
    return SELECTION_RULES.get(name) or imported("coordination.selection", name)
