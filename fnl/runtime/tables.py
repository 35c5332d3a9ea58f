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
}
"""A row a round; round 0 is the global model before training.

`epsilon_max` and `epsilon_mean` are over all clients of the federation, those that were never
asked counting as 0. `seconds` is wall time of the round.
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
}
"""A row a (round, layer, candidate); `partition` null: the global model on the evaluation split.

For a candidate `firing_rate` is after its training, on its own clips.
"""
