"""A round held against its shadow, against chance and against earlier rounds. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnl.metrics import aggregation, ranking
from fnl.metrics.fairness import gini, share_selected
from fnl.metrics.shift import class_shift, layer_shifts
from fnl.snn.evaluation import Evaluation
from fnl.weights import Weights
from fnl.wire.report import ClientReport, Unprotected
from server.coordination import Coordination, RoundOutcome
from server.record.history import History

Row = dict[str, object]


def shadow_values(outcome: RoundOutcome) -> Row:
    """Return the columns of a round against its shadow; none without."""
    shadow, after = outcome.shadow_decision, outcome.shadow_after
    if shadow is None or after is None:
        return {}
    return {
        **_ranking_values("shadow", outcome.decision, shadow),
        "attenuation": aggregation.attenuation(*_updates(outcome.before, outcome.after, after)),
        "cosine_shadow": aggregation.cosine(*_updates(outcome.before, outcome.after, after)),
        **_shift_values(outcome.reports),
    }


def floor_values(outcome: RoundOutcome) -> Row:
    """Return the same of the floor against the shadow, none of them private: chance alone."""
    shadow, after = outcome.shadow_decision, outcome.shadow_after
    floor, other = outcome.floor_decision, outcome.floor_after
    if shadow is None or after is None or floor is None or other is None:
        return {}
    return {
        **_ranking_values("floor", floor, shadow),
        "attenuation_floor": aggregation.attenuation(*_updates(outcome.before, other, after)),
        "cosine_floor": aggregation.cosine(*_updates(outcome.before, other, after)),
        **_floor_shift_values(outcome.reports),
    }


def history_values(outcome: RoundOutcome, history: History) -> Row:
    """Return the columns of a round against the rounds before, and take it into `history`.

    The ranking is compared over the candidates that have been candidates before, each with its
    score in its last round as one. Of c such among d candidates, the best c·m/d count as selected.
    """
    decision = outcome.decision
    partitions = [report.partition for report in outcome.reports]
    before = history.previous(partitions)
    known = np.flatnonzero(~np.isnan(before))
    chosen = set(decision.selected.tolist())
    for position, partition in enumerate(partitions):
        history.add(partition, float(decision.scores[position]), selected=position in chosen)
    values: Row = {
        "score_margin": ranking.margin(decision.scores, len(decision.selected)),
        "candidates_previous": len(known),
        "selection_gini": gini(history.selections),
        "selected_share": share_selected(history.selections),
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


def _shift_values(reports: Sequence[ClientReport]) -> Row:
    rows = [client_shift(report) for report in reports]
    shifts = np.array([row["rate_shift"] for row in rows], dtype=np.float64)
    classes = [row["rate_shift_classes"] for row in rows]
    known = np.array([value for value in classes if value is not None], dtype=np.float64)
    distances = _distances([report.shadow for report in reports])
    return {
        "rate_shift": float(shifts.mean()),
        "rate_shift_absolute": float(np.abs(shifts).mean()),
        "rate_shift_distance": float(np.mean(distances)) if distances else None,
        "rate_shift_classes": float(known.mean()) if known.size else None,
    }


def _distances(found: Sequence[Unprotected | None]) -> list[float]:
    return [distance for one in found if one for distance in one.distances or ()]


def _floor_shift_values(reports: Sequence[ClientReport]) -> Row:
    pairs = [(report.floor, report.shadow) for report in reports]
    shifts = np.array([a.rates.firing_rate - b.rates.firing_rate for a, b in pairs if a and b])
    distances = _distances([report.floor for report in reports])
    return {
        "rate_shift_floor": float(shifts.mean()),
        "rate_shift_absolute_floor": float(np.abs(shifts).mean()),
        "rate_shift_distance_floor": float(np.mean(distances)) if distances else None,
    }
