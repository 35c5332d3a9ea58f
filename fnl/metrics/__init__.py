"""Measurements as pure functions.

Those on plain arrays are here by name: `fnl.metrics.kendall_tau(scores, other_scores)`. They take
NumPy arrays and no PyTorch.
"""

from fnl.metrics.aggregation import (
    attenuation,
    cosine,
    effective_clients,
    update_norm,
    weight_entropy,
)
from fnl.metrics.fairness import gini, share_selected
from fnl.metrics.ranking import (
    flip_rate,
    jaccard,
    kendall_tau,
    margin,
    order,
    rank_biased_overlap,
    ranks,
    spearman_rho,
)

__all__ = [
    "attenuation",
    "cosine",
    "effective_clients",
    "flip_rate",
    "gini",
    "jaccard",
    "kendall_tau",
    "margin",
    "order",
    "rank_biased_overlap",
    "ranks",
    "share_selected",
    "spearman_rho",
    "update_norm",
    "weight_entropy",
]
