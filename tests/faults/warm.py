"""Imported once by the process that others are forked from: compiled kernels are loaded there.

Not more than that: Polars, say, does not outlive a fork once it has computed.
"""

from __future__ import annotations

import torch

import tests.faults.faulty_grid  # noqa: F401 to have it imported
from benchmarks import soak
from fnl.config import TrainingGroup, parse_config
from fnl.runtime.determinism import one_thread
from fnl.snn.evaluation import evaluate
from fnl.snn.network import build_network, initialise
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan

SMALL = soak.SMALL | {
    "run.checkpoint-every": 7,
    "coordination.candidates": 8,
    "coordination.selected": 4,
    "coordination.minimum": 1,
    "coordination.max-update-norm": 1000.0,
    "evaluation.every": 20,
}


def _warm_up() -> None:
    network = build_network(parse_config(SMALL).model, 8, 10)
    initialise(network, 0)
    features, labels = torch.zeros(16, 10, 8), torch.zeros(16, dtype=torch.int64)
    options = TrainingGroup(batch_size=8, local_epochs=0.5, learning_rate=0.01)
    plan = TrainingPlan.for_clips(16, options)
    with one_thread():
        train(
            network,
            features,
            labels,
            plan,
            batches=torch.Generator(),
            mechanism=GaussianMechanism(1.0, 1.0),
            noise=torch.Generator(),
        )
        evaluate(network, features, labels, 10)


_warm_up()
