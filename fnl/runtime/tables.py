"""The columns of a run's tables. A value that does not apply is null, never 0.

A column is declared here and nowhere else: its kind, unit and what it is, in Markdown. The files
(`table_files.py`) and `docs/metrics.md` (`make generated`) have what is declared. A number of the
global model (`of_model`) or of a round's aggregation (`of_round`) may come with the function that
computes it. What a client reports as one number is declared with its field of the report.
"""

from __future__ import annotations

from fnl.columns import Table, columns_of, flag, real, text, whole
from fnl.wire.report import ClientReport

# a row a column, as in the table that is made of it
# fmt: off
ROUNDS = Table({
    "round": whole("", "the round; 0 is the model before training"),
    "accuracy": real("[0, 1]", "share of clips of `evaluation.split` whose largest logit is their label; of the moving average where `evaluation.average` keeps one", lambda m: m.evaluation.accuracy),
    "loss": real("nats", "mean cross-entropy", lambda m: m.evaluation.loss),
    "firing_rate": real("spikes / neuron / step", "network rate of the global model; here and below the mean activation under `model.activation = relu`", lambda m: m.evaluation.firing.rate()),
    "activation_sparsity": real("[0, 1]", "1 − network rate (NeuroBench; spiking layers); of a network without spikes the share of neurons and steps at zero", lambda m: m.cost.activation_sparsity),
    "silent_fraction": real("[0, 1]", "neurons that never fire on the split", lambda m: m.evaluation.firing.over_neurons(m.evaluation.firing.silent_fractions())),
    "saturated_fraction": real("[0, 1]", "neurons that fire in more than 95 % of all steps; null without spikes", lambda m: m.evaluation.firing.over_neurons(m.evaluation.firing.saturated_fractions())),
    "synops_effective_acs": real("per clip", "operations whose activation and weight are not zero, where activations are −1, 0, 1 (NeuroBench)", lambda m: m.cost.effective_acs),
    "synops_effective_macs": real("per clip", "the same operations where activations are other numbers: the input of a direct encoding, and all without spikes", lambda m: m.cost.effective_macs),
    "energy_nj": real("nJ per clip", "(MACs · 4.6 pJ + ACs · 0.9 pJ), 32-bit float at 45 nm (Horowitz 2014): arithmetic alone, no memory access", lambda m: m.cost.energy_nj),
    "footprint_bytes": whole("bytes", "all parameters and buffers (NeuroBench)", lambda m: m.cost.footprint_bytes),
    "kendall_tau_shadow": real("[−1, 1]", "Kendall's τ-b of the scores under privacy and the shadow's, over the same candidates (SciPy)"),
    "spearman_rho_shadow": real("[−1, 1]", "Spearman's ρ of the same scores"),
    "jaccard_shadow": real("[0, 1]", "|A ∩ B| / |A ∪ B| of the two selections"),
    "rbo_shadow": real("[0, 1]", "rank-biased overlap, extrapolated, p = 0.9 (Webber, Moffat & Zobel 2010, eq. 32)"),
    "flip_rate_shadow": real("[0, 1]", "share of the shadow's selection that privacy does not select"),
    "attenuation": real("≥ 0", "‖Δ_DP‖ / ‖Δ_shadow‖, Δ the step of the global model, each with its own selection and weights; noise alone can make it exceed 1"),
    "cosine_shadow": real("[−1, 1]", "cosine of Δ_DP and Δ_shadow"),
    "update_norm": real("L2", "‖Δ‖₂ over all weights"),
    "effective_clients": real("[1, m]", "1 / Σ w² of the normalised aggregation weights"),
    "weight_entropy": real("nats, [0, ln m]", "−Σ w ln w of the same weights"),
    "epsilon_max": real("ε", "largest ε any client has spent so far"),
    "epsilon_mean": real("ε", "mean ε over all N clients, those never asked counting 0"),
    "seconds": real("s", "wall time of the round, up to its evaluation if that is done beside the next round"),
    "accuracy_shadow": real("[0, 1]", "accuracy of the model the shadows' updates would have given in this one round"),
    "loss_shadow": real("nats", "cross-entropy of that model"),
    "rate_shift_global": real("rate, signed", "network rate of the global model − that of the model the shadows would have given"),
    "rate_shift": real("rate, signed", "mean over candidates of r_k(θ_k) − r_k(θ_k, shadow)"),
    "rate_shift_absolute": real("[0, 1]", "mean over candidates of the absolute value of their `rate_shift`"),
    "rate_shift_distance": real("[0, 1]", "mean over candidates and layers of the layer's `rate_shift_distance`"),
    "rate_shift_classes": real("[0, 1]", "mean over candidates of their `rate_shift_classes`"),
    "score_margin": real("of the rule", "score of rank m − score of rank m + 1; 0 is a tie"),
    "score_reliability": real("[0, 1]", "share of the estimated scores' variance that is not noise; null where `coordination.estimate` is `plain`"),
    "selected_at_random": flag("", "whether the round selected at random, as noise hides the scores (`coordination.min-reliability`)"),
    "kendall_tau_previous": real("[−1, 1]", "τ-b of the candidates' scores and their scores in the last round each was a candidate, over the candidates that were one before"),
    "spearman_rho_previous": real("[−1, 1]", "Spearman's ρ of the same scores"),
    "jaccard_previous": real("[0, 1]", "Jaccard of the best by the scores now and before: of c candidates the best ⌊c·m/d⌋, at least one"),
    "flip_rate_previous": real("[0, 1]", "share of the earlier best that are not among the best now"),
    "candidates_previous": whole("clients", "candidates that were one before, c; below 2 the four `…_previous` columns are null"),
    "kendall_tau_floor": real("[−1, 1]", "as `…_shadow`, floor against shadow: how unstable a ranking is without any privacy"),
    "spearman_rho_floor": real("[−1, 1]", "Spearman's ρ, floor against shadow"),
    "jaccard_floor": real("[0, 1]", "Jaccard of the two selections, floor against shadow"),
    "rbo_floor": real("[0, 1]", "rank-biased overlap, floor against shadow"),
    "flip_rate_floor": real("[0, 1]", "share of the shadow's selection that the floor does not select"),
    "rate_shift_floor": real("rate, signed", "mean over candidates of r_k(floor) − r_k(shadow)"),
    "rate_shift_absolute_floor": real("[0, 1]", "mean over candidates of the absolute value of r_k(floor) − r_k(shadow)"),
    "rate_shift_distance_floor": real("[0, 1]", "as `rate_shift_distance`, floor against shadow"),
    "attenuation_floor": real("≥ 0", "‖Δ_floor‖ / ‖Δ_shadow‖"),
    "cosine_floor": real("[−1, 1]", "cosine of Δ_floor and Δ_shadow"),
    "selection_gini": real("[0, 1 − 1/N], 0 even", "Gini coefficient of how often each of the N clients was selected so far (Gini 1912): Σ_ij |x_i − x_j| / (2N² x̄)"),
    "selected_share": real("[0, 1]", "clients selected at least once so far"),
    "connection_sparsity": real("[0, 1]", "zero weights among all synapses, recurrent ones included, biases not (NeuroBench)", lambda m: m.cost.connection_sparsity),
    "synops_dense": real("per clip", "operations if every activation and every weight counted (NeuroBench)", lambda m: m.cost.dense_operations),
    "membrane_updates": real("per clip", "first step: every neuron; later ones: neurons whose membrane after the step differs from before (NeuroBench)", lambda m: m.cost.membrane_updates),
    "state_bytes": whole("bytes per clip", "what a step-by-step run keeps of a clip: membranes, second states of neurons, membrane and running sum of the read-out, 4 bytes each; past inputs of convolutions are not counted"),
    "gradient_bytes": whole("bytes per clip", "the gradient of one clip written out, over trained parameters: times the batch, what written-out DP-SGD holds"),
    "bytes_down": whole("bytes", "records sent to clients in the round, as Flower counts them (`count_bytes`), candidates and uploads asked for"),
    "bytes_up": whole("bytes", "records that came back and were taken, updates as they are sent (`training.sent-share`, `.sent-bits`), without what no device sends: the weights of shadows and floors, and residuals"),
    "epsilon_client": real("ε", "largest client-level ε of any client so far; null without client-level privacy"),
    "answered": whole("clients", "candidates whose answer was taken; under `coordination.probe` whose report was"),
    "rejected": whole("answers", "answers that were not taken or never came, those of a probed round's second phase too; a row each in `faults.parquet`"),
    "selected": whole("clients", "candidates whose update was averaged: fewer than `coordination.selected` where fewer answered, or uploaded what can be taken"),
})
"""A row a round; round 0 is the global model before training."""

CLIENTS = Table({
    "round": whole("", "the round"),
    **columns_of(ClientReport),
    "selected": flag("", "whether its update was averaged"),
    "score": real("of the rule", "by the selection rule, on its private rates"),
    "rank": whole("[1, d]", "1 is best; ties fall to the lower partition"),
    "score_shadow": real("of the rule", "by the same rule on its shadow's rates"),
    "rank_shadow": whole("[1, d]", "rank by `score_shadow`"),
    "weight": real("[0, 1]", "share of the average; null if not selected"),
    "firing_rate_before": real("spikes / neuron / step", "network rate of θ on the client's clips; where `rate_released`, as released: with noise of deviation `rate_noise` on each layer's and class' rate"),
    "firing_rate_after": real("spikes / neuron / step", "network rate of θ_k on the client's clips; noisy where it was released"),
    "firing_rate_before_shadow": real("spikes / neuron / step", "`firing_rate_before` in the clear, beside a release; null where that is in the clear itself"),
    "firing_rate_shadow": real("spikes / neuron / step", "network rate of the shadow on them"),
    "rate_released": flag("", "whether rates left through an accounted mechanism"),
    "rate_shift": real("rate, signed", "`firing_rate_after` − `firing_rate_shadow`"),
    "rate_shift_classes": real("[0, 1]", "mean of |r_{k,c}(θ_k) − r_{k,c}(shadow)| over the classes c the client has"),
    "firing_rate_floor": real("spikes / neuron / step", "network rate of the floor on them"),
    "score_floor": real("of the rule", "by the same rule on the floor's rates"),
    "rank_floor": whole("[1, d]", "rank by `score_floor`"),
})
"""A row a (round, candidate)."""

LAYERS = Table({
    "round": whole("", "the round"),
    "layer": whole("", "spiking layers from the input, 0 first"),
    "partition": whole("", "the client; null: the global model"),
    "firing_rate": real("spikes / neuron / step", "r_l; of a candidate, after its training"),
    "firing_rate_before": real("spikes / neuron / step", "r_l of θ; candidates only"),
    "firing_rate_shadow": real("spikes / neuron / step", "r_l of the shadow; candidates only"),
    "silent_fraction": real("[0, 1]", "neurons that never fired; global model only"),
    "saturated_fraction": real("[0, 1]", "neurons above 95 %; global model only"),
    "rate_shift": real("rate, signed", "mean over neurons j of r_j − r_j(shadow)"),
    "rate_shift_distance": real("[0, 1]", "Wasserstein-1 distance of the distributions of rates over neurons (SciPy): sees the shape, not which neuron"),
    "rate_shift_neurons": real("[0, 1]", "mean over neurons of |r_j − r_j(shadow)|; |rate_shift| ≤ distance ≤ this"),
    "firing_rate_floor": real("spikes / neuron / step", "r_l of the floor; candidates only"),
    "membrane_mean": real("`model.threshold`", "mean membrane after a step, over neurons, steps, clips; global model only"),
    "membrane_variance": real("`model.threshold`²", "mean over neurons of the variance over steps and clips"),
    "membrane_autocorrelation": real("[−1, 1]", "mean over neurons of Σ(u_t − ū)(u_{t+1} − ū) / Σ(u_t − ū)²; neurons that never move left out"),
})
"""A row a (round, layer, candidate); `partition` null: the global model on the evaluation split."""

LABELS = Table({
    "round": whole("", "the round; 0 is the model before training"),
    "label": text("", "what is said in the clips"),
    "clips": whole("clips", "of `evaluation.split` with this label"),
    "accuracy": real("[0, 1]", "share of them that the global model labels right"),
    "firing_rate": real("spikes / neuron / step", "network rate on them"),
})
"""A row a (round, label): the global model on the evaluation split."""

FAULTS = Table({
    "round": whole("", "the round"),
    "partition": whole("", "the client; null: a stranger, or of the round itself"),
    "kind": text("", "what was wrong, see `server/replies/rejections.py`"),
    "reason": text("", "the same in words"),
    "epsilon_assumed": real("ε", "what the client is taken to have spent so far, as it may have trained; infinite where nothing bounds it, null without privacy and where its own report says it"),
})
"""A row a reply that was not taken, or that never came, or what went wrong with the round itself."""
# fmt: on

TABLES = {
    "rounds": ROUNDS,
    "clients": CLIENTS,
    "layers": LAYERS,
    "labels": LABELS,
    "faults": FAULTS,
}
