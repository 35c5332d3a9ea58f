"""Columns of a run's tables. A value that does not apply is null, never 0."""

from __future__ import annotations

import polars as pl

ROUNDS = {
    "round": pl.Int64,
    "accuracy": pl.Float64,
    "loss": pl.Float64,
    "firing_rate": pl.Float64,
    "activation_sparsity": pl.Float64,
    "silent_fraction": pl.Float64,
    "saturated_fraction": pl.Float64,
    "synops_effective_acs": pl.Float64,
    "synops_effective_macs": pl.Float64,
    "energy_nj": pl.Float64,
    "footprint_bytes": pl.Int64,
    "kendall_tau_shadow": pl.Float64,
    "spearman_rho_shadow": pl.Float64,
    "jaccard_shadow": pl.Float64,
    "rbo_shadow": pl.Float64,
    "flip_rate_shadow": pl.Float64,
    "attenuation": pl.Float64,
    "cosine_shadow": pl.Float64,
    "update_norm": pl.Float64,
    "effective_clients": pl.Float64,
    "weight_entropy": pl.Float64,
    "epsilon_max": pl.Float64,
    "epsilon_mean": pl.Float64,
    "seconds": pl.Float64,
    "accuracy_shadow": pl.Float64,
    "loss_shadow": pl.Float64,
    "rate_shift_global": pl.Float64,
    "rate_shift": pl.Float64,
    "rate_shift_absolute": pl.Float64,
    "rate_shift_distance": pl.Float64,
    "rate_shift_classes": pl.Float64,
    "score_margin": pl.Float64,
    "kendall_tau_previous": pl.Float64,
    "spearman_rho_previous": pl.Float64,
    "jaccard_previous": pl.Float64,
    "flip_rate_previous": pl.Float64,
    "candidates_previous": pl.Int64,
    "kendall_tau_floor": pl.Float64,
    "spearman_rho_floor": pl.Float64,
    "jaccard_floor": pl.Float64,
    "rbo_floor": pl.Float64,
    "flip_rate_floor": pl.Float64,
    "rate_shift_floor": pl.Float64,
    "rate_shift_absolute_floor": pl.Float64,
    "rate_shift_distance_floor": pl.Float64,
    "attenuation_floor": pl.Float64,
    "cosine_floor": pl.Float64,
    "selection_gini": pl.Float64,
    "selected_share": pl.Float64,
    "connection_sparsity": pl.Float64,
    "synops_dense": pl.Float64,
    "membrane_updates": pl.Float64,
    "state_bytes": pl.Int64,
    "gradient_bytes": pl.Int64,
    "bytes_down": pl.Int64,
    "bytes_up": pl.Int64,
    "epsilon_client": pl.Float64,
    "answered": pl.Int64,
    "rejected": pl.Int64,
    "selected": pl.Int64,
}
"""A row a round; round 0 is the global model before training.

`epsilon_max` and `epsilon_mean` are over all clients of the federation, those that were never
asked counting as 0; `epsilon_client` is the largest client-level ε of any client. `seconds` is wall
time of the round. `effective_clients` and `weight_entropy` are null where a rule gives clients no
shares. `answered` candidates gave a usable answer, `rejected` counts what was wrong (a row each in
the faults), `selected` is how many were averaged: fewer than `coordination.selected` where fewer
answered. docs/metrics.md defines every column.
"""

CLIENTS = {
    "round": pl.Int64,
    "partition": pl.Int64,
    "selected": pl.Boolean,
    "score": pl.Float64,
    "rank": pl.Int64,
    "score_shadow": pl.Float64,
    "rank_shadow": pl.Int64,
    "weight": pl.Float64,
    "num_examples": pl.Int64,
    "steps": pl.Int64,
    "sample_rate": pl.Float64,
    "firing_rate_before": pl.Float64,
    "firing_rate_after": pl.Float64,
    "firing_rate_shadow": pl.Float64,
    "rate_released": pl.Boolean,
    "clip_fraction": pl.Float64,
    "gradient_norm_median": pl.Float64,
    "noise_multiplier": pl.Float64,
    "epsilon": pl.Float64,
    "delta": pl.Float64,
    "update_norm": pl.Float64,
    "train_loss": pl.Float64,
    "seconds": pl.Float64,
    "rate_shift": pl.Float64,
    "rate_shift_classes": pl.Float64,
    "firing_rate_floor": pl.Float64,
    "score_floor": pl.Float64,
    "rank_floor": pl.Int64,
    "predicted_rate_shift": pl.Float64,
    "predicted_rate_shift_sd": pl.Float64,
    "rate_noise": pl.Float64,
    "gradient_norm_q10": pl.Float64,
    "gradient_norm_q90": pl.Float64,
    "clip_norm": pl.Float64,
}
"""A row a (round, candidate). `weight` is null for a candidate that was not selected.

`rate_released` says whether the rates left the client through an accounted mechanism, `rate_noise`
the standard deviation of its noise. `clip_norm` is the bound after the client's last step.
"""

LAYERS = {
    "round": pl.Int64,
    "layer": pl.Int64,
    "partition": pl.Int64,
    "firing_rate": pl.Float64,
    "firing_rate_before": pl.Float64,
    "firing_rate_shadow": pl.Float64,
    "silent_fraction": pl.Float64,
    "saturated_fraction": pl.Float64,
    "rate_shift": pl.Float64,
    "rate_shift_distance": pl.Float64,
    "rate_shift_neurons": pl.Float64,
    "firing_rate_floor": pl.Float64,
    "membrane_mean": pl.Float64,
    "membrane_variance": pl.Float64,
    "membrane_autocorrelation": pl.Float64,
}
"""A row a (round, layer, candidate); `partition` null: the global model on the evaluation split.

For a candidate `firing_rate` is after its training, on its own clips.
"""

FAULTS = {
    "round": pl.Int64,
    "partition": pl.Int64,
    "kind": pl.String,
    "reason": pl.String,
    "epsilon_assumed": pl.Float64,
}
"""A row a reply that was not taken, or that never came. `kind`: `server/replies/rejections.py`.

`epsilon_assumed`: what the client is taken to have spent so far, as it may have trained; infinite
where nothing bounds it, null without privacy, and where the client's own report says what it spent.
"""
