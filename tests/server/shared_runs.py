"""A small run whose noise is shared."""

from __future__ import annotations

SHARED = {
    "run.name": "shared", "run.strict-privacy": True, "run.rounds": 3,
    "model.hidden": "12,8", "data.mel-bins": 8, "data.frame-hop-ms": 50,
    "training.steps": 1, "training.batch-size": 0, "training.optimizer": "sgd",
    "training.learning-rate": 0.5, "privacy.noise": "distributed",
    "privacy.accountant": "prv", "privacy.clip-norm": 1.0,
    "coordination.candidates": 4, "coordination.selected": 4,
    "coordination.selection": "random", "coordination.aggregation": "fedavg",
    "evaluation.shadow": False,
}  # fmt: skip
RELEASED = {"privacy.rate-release": "gaussian"}
