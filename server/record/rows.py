"""What is measured in a round, as rows of the run's tables. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from fnl.metrics import aggregation, ranking
from fnl.metrics.memory import gradient_bytes, membrane_summary, peak_memory_bytes, state_bytes
from fnl.runtime.tables import CLIENTS
from fnl.snn.evaluation import Evaluation
from fnl.wire.report import ENTRIES, ClientReport
from server.global_round import GlobalRound
from server.record.comparison import (
    Row,
    client_shift,
    floor_values,
    global_layer_shifts,
    shadow_values,
)
from server.replies.rejections import OF_THE_ROUND


def coordination_values(played: GlobalRound) -> Row:
    """Return the columns of a round about answers, selection, aggregation, shadow and floor."""
    before, after = aggregation.flatten(played.before), aggregation.flatten(played.after)
    values: Row = {
        "update_norm": float(np.linalg.norm(after - before)),
        "bytes_down": played.bytes_down,
        "bytes_up": played.bytes_up,
        "answered": len(played.reports),
        "rejected": sum(one.kind not in OF_THE_ROUND for one in played.rejections),
        "selected": len(played.decision.selected),
    }
    if (reliability := played.decision.reliability) is not None:
        values |= {
            "score_reliability": reliability,
            "selected_at_random": played.decision.at_random,
        }
    if (shares := played.decision.weights) is not None and shares.any():
        values["effective_clients"] = aggregation.effective_clients(shares)
        values["weight_entropy"] = aggregation.weight_entropy(shares)
    return values | shadow_values(played) | floor_values(played)


def peak_memory(played: GlobalRound) -> int:
    """Return the largest resident memory of any one process so far, server's or candidate's."""
    candidates = [report.peak_memory_bytes or 0 for report in played.reports]
    return max([peak_memory_bytes(), *candidates])


def memory_values(network: nn.Module, evaluation: Evaluation) -> Row:
    """Return the columns of a round about the bytes that a network takes."""
    return {
        "state_bytes": state_bytes(network, evaluation),
        "gradient_bytes": gradient_bytes(network),
    }


def epsilon_values(epsilons: Mapping[int, float], clients: int) -> Row:
    """Return largest and mean ε over all clients; null before anyone spent anything privately."""
    if not epsilons:
        return {}
    return {
        "epsilon_max": max(epsilons.values()),
        "epsilon_mean": sum(epsilons[partition] for partition in sorted(epsilons)) / clients,
    }


def client_rows(played: GlobalRound) -> list[Row]:
    """Return a row a candidate."""
    decision = played.decision
    shadow, floor = (one and one.decision for one in (played.shadow, played.floor))
    positions = decision.selected.tolist()
    shares = [None] * len(positions) if decision.weights is None else decision.weights.tolist()
    weights = dict(zip(positions, shares, strict=True))
    ranks = ranking.ranks(decision.scores)
    shadow_ranks = ranking.ranks(shadow.scores) if shadow else None
    floor_ranks = ranking.ranks(floor.scores) if floor else None
    rows: list[Row] = []
    for position, report in enumerate(played.reports):
        row: Row = {
            "round": played.number,
            "selected": position in weights,
            "score": float(decision.scores[position]),
            "rank": int(ranks[position]),
            "score_shadow": float(shadow.scores[position]) if shadow else None,
            "rank_shadow": int(shadow_ranks[position]) if shadow_ranks is not None else None,
            "score_floor": float(floor.scores[position]) if floor else None,
            "rank_floor": int(floor_ranks[position]) if floor_ranks is not None else None,
            "weight": weights.get(position),
            "rate_released": report.rate_released,
        }
        rows.append(row | _report_values(report) | client_shift(report))
    return rows


def _report_values(report: ClientReport) -> Row:
    """Return the columns that are numbers of the report, by their names in it."""
    values = report.values()
    return {name: _or_null(values.get(name)) for name in CLIENTS if name in ENTRIES}


def _or_null(value: float | None) -> float | None:
    """Return None for nan, which stands for a number that a client withholds."""
    return None if value is None or math.isnan(value) else value


def without_nan(row: Row) -> Row:
    """Return a row with null for nan: a network without spiking neurons has no rate."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def global_layer_rows(
    server_round: int, evaluation: Evaluation, shadow: Evaluation | None = None
) -> list[Row]:
    """Return a row a spiking layer of the global model on the evaluation split."""
    firing = evaluation.firing
    columns = (firing.layer_rates(), firing.silent_fractions(), firing.saturated_fractions())
    shifts = global_layer_shifts(evaluation, shadow)
    rows: list[Row] = []
    for layer, (rate, silent, saturated) in enumerate(zip(*columns, strict=True)):
        membrane = membrane_summary(evaluation.membranes[layer])
        row: Row = {
            "round": server_round,
            "layer": layer,
            "firing_rate": float(rate),
            "silent_fraction": float(silent),
            "saturated_fraction": _or_null(float(saturated)),
            "membrane_mean": membrane.mean,
            "membrane_variance": membrane.variance,
            "membrane_autocorrelation": membrane.autocorrelation,
        }
        rows.append(row | shifts[layer])
    return rows


def label_rows(server_round: int, evaluation: Evaluation, labels: Sequence[str]) -> list[Row]:
    """Return a row a label of which the evaluation split has clips."""
    firing = evaluation.firing
    neurons = sum(firing.neurons)
    rows: list[Row] = []
    for label, name in enumerate(labels):
        clips = int(firing.clips[label])
        if not clips:
            continue
        spikes = sum(float(layer[label].sum()) for layer in firing.spikes)
        rows.append(
            {
                "round": server_round,
                "label": name,
                "clips": clips,
                "accuracy": int(evaluation.class_correct[label]) / clips,
                "firing_rate": spikes / (clips * firing.steps * neurons) if neurons else None,
            }
        )
    return rows


def client_layer_rows(played: GlobalRound) -> list[Row]:
    """Return a row a (layer, candidate): rates on the candidate's own clips."""
    return [
        {"round": played.number, "partition": report.partition, **row}
        for report in played.reports
        for row in _layers(report)
    ]


def _layers(report: ClientReport) -> list[Row]:
    """Return what a report says of each layer."""
    shadow, floor = report.shadow, report.floor
    lists = {
        "firing_rate": report.after.layers,
        "firing_rate_before": report.before.layers,
        "firing_rate_shadow": shadow and shadow.rates.layers,
        "rate_shift_distance": shadow and shadow.distances,
        "rate_shift_neurons": shadow and shadow.neurons,
        "firing_rate_floor": floor and floor.rates.layers,
    }
    rows: list[Row] = []
    for layer, after in enumerate(report.after.layers):
        row: Row = {"layer": layer}
        row |= {name: _or_null(values[layer]) if values else None for name, values in lists.items()}
        if shadow:
            row["rate_shift"] = _or_null(after - shadow.rates.layers[layer])
        rows.append(row)
    return rows


def fault_rows(played: GlobalRound) -> list[Row]:
    """Return a row for everything that was wrong with replies."""
    return [
        {
            "round": played.number,
            "partition": rejection.partition,
            "kind": rejection.kind.value,
            "reason": rejection.reason,
            "epsilon_assumed": epsilon,
        }
        for rejection, epsilon in zip(played.rejections, played.assumed, strict=True)
    ]
