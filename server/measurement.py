"""What is measured in a round, as rows of the run's tables. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fnl.exchange import ClientReport
from fnl.metrics import aggregation, ranking
from fnl.metrics.sparsity import Sparsity
from fnl.snn.evaluation import Evaluation
from server.coordination import Coordination, RoundOutcome

Row = dict[str, object]


def evaluation_values(evaluation: Evaluation, cost: Sparsity) -> Row:
    """Return the columns of a round that the central evaluation gives."""
    firing = evaluation.firing
    return {
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "firing_rate": firing.rate(),
        "activation_sparsity": cost.activation_sparsity,
        "silent_fraction": firing.over_neurons(firing.silent_fractions()),
        "saturated_fraction": firing.over_neurons(firing.saturated_fractions()),
        "synops_effective_acs": cost.effective_acs,
        "synops_effective_macs": cost.effective_macs,
        "energy_nj": cost.energy_nj,
        "footprint_bytes": cost.footprint_bytes,
    }


def coordination_values(outcome: RoundOutcome) -> Row:
    """Return the columns of a round about selection and aggregation, shadows included."""
    before, after = aggregation.flatten(outcome.before), aggregation.flatten(outcome.after)
    values: Row = {
        "update_norm": float(np.linalg.norm(after - before)),
        "effective_clients": aggregation.effective_clients(outcome.decision.weights),
        "weight_entropy": aggregation.weight_entropy(outcome.decision.weights),
    }
    shadow = outcome.shadow_decision
    if shadow is None or outcome.shadow_after is None:
        return values
    update = after - before
    shadow_update = aggregation.flatten(outcome.shadow_after) - before
    return values | {
        **_ranking_values(outcome.decision, shadow),
        "attenuation": aggregation.attenuation(update, shadow_update),
        "cosine_shadow": aggregation.cosine(update, shadow_update),
    }


def _ranking_values(decision: Coordination, shadow: Coordination) -> Row:
    scores, plain, top = decision.scores, shadow.scores, len(decision.selected)
    return {
        "kendall_tau_shadow": ranking.kendall_tau(scores, plain),
        "spearman_rho_shadow": ranking.spearman_rho(scores, plain),
        "jaccard_shadow": ranking.jaccard(scores, plain, top),
        "rbo_shadow": ranking.rank_biased_overlap(scores, plain),
        "flip_rate_shadow": ranking.flip_rate(plain, scores, top),
    }


def epsilon_values(epsilons: Mapping[int, float], clients: int) -> Row:
    """Return largest and mean ε over all clients; null before anyone spent anything privately."""
    if not epsilons:
        return {}
    return {
        "epsilon_max": max(epsilons.values()),
        "epsilon_mean": sum(epsilons[partition] for partition in sorted(epsilons)) / clients,
    }


def client_rows(server_round: int, outcome: RoundOutcome) -> list[Row]:
    """Return a row a candidate."""
    decision, shadow = outcome.decision, outcome.shadow_decision
    weights = dict(zip(decision.selected.tolist(), decision.weights.tolist(), strict=True))
    ranks = ranking.ranks(decision.scores)
    shadow_ranks = ranking.ranks(shadow.scores) if shadow else None
    rows: list[Row] = []
    for position, report in enumerate(outcome.reports):
        row: Row = {
            "round": server_round,
            "selected": position in weights,
            "score": float(decision.scores[position]),
            "rank": int(ranks[position]),
            "score_shadow": float(shadow.scores[position]) if shadow else None,
            "rank_shadow": int(shadow_ranks[position]) if shadow_ranks is not None else None,
            "weight": weights.get(position),
            "rate_released": report.rate_released,
        }
        rows.append(row | _report_values(report))
    return rows


def _report_values(report: ClientReport) -> Row:
    names = (
        "partition",
        "num_examples",
        "steps",
        "sample_rate",
        "firing_rate_before",
        "firing_rate_after",
        "firing_rate_shadow",
        "clip_fraction",
        "gradient_norm_median",
        "noise_multiplier",
        "epsilon",
        "delta",
        "update_norm",
        "train_loss",
        "seconds",
        "rate_noise",
        "gradient_norm_q10",
        "gradient_norm_q90",
        "clip_norm",
    )
    return {name: getattr(report, name) for name in names}


def global_layer_rows(server_round: int, evaluation: Evaluation) -> list[Row]:
    """Return a row a spiking layer of the global model on the evaluation split."""
    firing = evaluation.firing
    columns = (firing.layer_rates(), firing.silent_fractions(), firing.saturated_fractions())
    return [
        {
            "round": server_round,
            "layer": layer,
            "firing_rate": float(rate),
            "silent_fraction": float(silent),
            "saturated_fraction": float(saturated),
        }
        for layer, (rate, silent, saturated) in enumerate(zip(*columns, strict=True))
    ]


def client_layer_rows(server_round: int, outcome: RoundOutcome) -> list[Row]:
    """Return a row a (layer, candidate): rates on the candidate's own clips."""
    rows: list[Row] = []
    for report in outcome.reports:
        shadows = report.layer_rates_shadow or [None] * len(report.layer_rates_after)
        layers = zip(report.layer_rates_before, report.layer_rates_after, shadows, strict=True)
        for layer, (before, after, shadow) in enumerate(layers):
            rows.append(
                {
                    "round": server_round,
                    "layer": layer,
                    "partition": report.partition,
                    "firing_rate": after,
                    "firing_rate_before": before,
                    "firing_rate_shadow": shadow,
                }
            )
    return rows
