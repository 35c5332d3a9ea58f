"""A round held against its shadow, against chance and against earlier rounds. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.metrics import aggregation, ranking
from fnl.metrics.fairness import gini, share_selected
from fnl.metrics.ranking import Scores
from fnl.metrics.shift import class_shift, layer_shifts
from fnl.snn.evaluation import Evaluation
from fnl.weights import Weights
from fnl.wire.report import ClientReport, Unprotected
from server.coordination import Coordination
from server.global_round import GlobalRound

Row = dict[str, object]


def shadow_values(played: GlobalRound) -> Row:
    """Return the columns of a round against its shadow; none without."""
    shadow = played.shadow
    if shadow is None or shadow.after is None:
        return {}
    updates = _updates(played.before, played.after, shadow.after)
    rows = [client_shift(report) for report in played.reports]
    classes = [row["rate_shift_classes"] for row in rows]
    known = np.array([value for value in classes if value is not None], dtype=np.float64)
    told = [report.shadow for report in played.reports]
    return {
        **_ranking_values("shadow", played.decision, shadow.decision),
        "attenuation": aggregation.attenuation(*updates),
        "cosine_shadow": aggregation.cosine(*updates),
        **_shift_values([row["rate_shift"] for row in rows], told),
        "rate_shift_classes": float(known.mean()) if known.size else None,
    }


def floor_values(played: GlobalRound) -> Row:
    """Return the same of the floor against the shadow, none of them private: chance alone."""
    shadow, floor = played.shadow, played.floor
    if not shadow or not floor or shadow.after is None or floor.after is None:
        return {}
    updates = _updates(played.before, floor.after, shadow.after)
    told = [report.floor for report in played.reports]
    pairs = [(report.floor, report.shadow) for report in played.reports]
    shifts = [a.rates.firing_rate - b.rates.firing_rate for a, b in pairs if a and b]
    return {
        **_ranking_values("floor", floor.decision, shadow.decision),
        "attenuation_floor": aggregation.attenuation(*updates),
        "cosine_floor": aggregation.cosine(*updates),
        **_shift_values(shifts, told, "_floor"),
    }


def history_values(played: GlobalRound, last_scores: Scores) -> Row:
    """Return the columns of a round against the rounds before.

    The ranking is compared over the candidates that have been candidates before, each with its
    score in its last round as one. Of c such among d candidates, the best c·m/d count as selected.

    Args:
        played: the round.
        last_scores: each client's score in the last round before in which it was a candidate, nan
            if it never was, float64 [N].
    """
    decision, times_selected = played.decision, played.history.times_selected
    partitions = [report.partition for report in played.reports]
    before = last_scores[partitions]
    known = np.flatnonzero(~np.isnan(before))
    values: Row = {
        "score_margin": ranking.margin(decision.scores, len(decision.selected)),
        "candidates_previous": len(known),
        "selection_gini": gini(times_selected),
        "selected_share": share_selected(times_selected),
    }
    if len(known) < 2:
        return values
    now, then = decision.scores[known], before[known]
    top = max(1, len(known) * len(decision.selected) // len(partitions))
    return values | {
        "kendall_tau_previous": ranking.kendall_tau(now, then),
        "spearman_rho_previous": ranking.spearman_rho(now, then),
        "jaccard_previous": ranking.jaccard(now, then, top),
        "flip_rate_previous": ranking.flip_rate(then, now, top),
    }


def global_shift_values(evaluation: Evaluation, shadow: Evaluation) -> Row:
    """Return the columns of a round about the global model that its shadow would have given."""
    return {
        "accuracy_shadow": shadow.accuracy,
        "loss_shadow": shadow.loss,
        "rate_shift_global": evaluation.firing.rate() - shadow.firing.rate(),
    }


def global_layer_shifts(evaluation: Evaluation, shadow: Evaluation | None) -> list[Row]:
    """Return the shift columns of each layer of the global model; empty rows without a shadow."""
    if shadow is None:
        return [{} for _ in evaluation.firing.neurons]
    return [
        {
            "rate_shift": shift.mean,
            "rate_shift_distance": shift.distance,
            "rate_shift_neurons": shift.neuron,
        }
        for shift in layer_shifts(evaluation.firing, shadow.firing)
    ]


def client_shift(report: ClientReport) -> Row:
    """Return the shift columns of a candidate; none without a shadow."""
    if report.shadow is None:
        return {}
    after, shadow = report.after, report.shadow.rates
    return {
        "rate_shift": after.firing_rate - shadow.firing_rate,
        "rate_shift_classes": class_shift(after.classes, shadow.classes),
    }


def _ranking_values(kind: str, decision: Coordination, shadow: Coordination) -> Row:
    scores, plain, top = decision.scores, shadow.scores, len(decision.selected)
    return {
        f"kendall_tau_{kind}": ranking.kendall_tau(scores, plain),
        f"spearman_rho_{kind}": ranking.spearman_rho(scores, plain),
        f"jaccard_{kind}": ranking.jaccard(scores, plain, top),
        f"rbo_{kind}": ranking.rank_biased_overlap(scores, plain),
        f"flip_rate_{kind}": ranking.flip_rate(plain, scores, top),
    }


def _updates(before: Weights, after: Weights, other: Weights) -> tuple[np.ndarray, np.ndarray]:
    start = aggregation.flatten(before)
    return aggregation.flatten(after) - start, aggregation.flatten(other) - start


def _shift_values(
    shifts: Sequence[object], found: Sequence[Unprotected | None], suffix: str = ""
) -> Row:
    """Return the mean shifts of the candidates' rates, and distances that they told of."""
    changes = np.array(shifts, dtype=np.float64)
    distances = [distance for one in found if one for distance in one.distances or ()]
    return {
        f"rate_shift{suffix}": float(changes.mean()),
        f"rate_shift_absolute{suffix}": float(np.abs(changes).mean()),
        f"rate_shift_distance{suffix}": float(np.mean(distances)) if distances else None,
    }
