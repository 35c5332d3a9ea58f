"""How far the first-order prediction of the rate shift holds for real spikes.

    fnl bench first-order [--draws 40] [--warm-up 20] [--set group.key=value ...]

A small client of the synthetic corpus takes one DP-SGD step from a network that has learnt for
`--warm-up` plain Adam steps, `--draws` times with other noise. Its rates are measured as in a run
and held against the prediction, whose gradient is the surrogate's: for each learning rate the mean
and the standard deviation of the shift, and their ratios (measured / predicted).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fnl.cli.terminal import Assignments
from fnl.clip_draws import DrawKeys
from fnl.config import Scalar, TrainingGroup, parse_config, parse_overrides
from fnl.data.federated import open_federation
from fnl.runtime.determinism import one_thread
from fnl.snn.evaluation import evaluate
from fnl.snn.network import build_network, initialise
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan
from fnl.training.sensitivity import predict_rate_shift

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SMALL: dict[str, Scalar] = {
    "data.speakers": 20,
    "data.clips-per-word": 2,
    "data.clients": 4,
    "coordination.candidates": 4,
    "coordination.selected": 4,
}


def main(
    draws: int = 40,
    warm_up: int = 20,
    clip_norm: float = 1.0,
    noise_multiplier: float = 1.0,
    assignments: Assignments = None,
) -> None:
    """Print a row a learning rate."""
    config = parse_config({**SMALL, **parse_overrides(assignments or [])})
    federation = open_federation(config)
    clips = federation.client_clips(0)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, config.run.seed)
    mechanism = GaussianMechanism(noise_multiplier, clip_norm)
    step = TrainingPlan(1, 1.0, 0.0, TrainingGroup(optimizer="sgd"))
    with one_thread():
        if warm_up:
            warm = TrainingPlan(warm_up, 1.0, 0.005, TrainingGroup())
            train(network, *clips, warm, batches=torch.Generator().manual_seed(0))
        print(
            "learning rate   mean: predicted   measured  ratio     sd: predicted  measured  ratio"
        )
        for rate in LEARNING_RATES:
            plan = replace(step, learning_rate=rate)
            predicted = predict_rate_shift(
                copy.deepcopy(network), clips, plan, mechanism, draws=DrawKeys.seeded(0, 1, 0)
            )
            shifts = measured(network, clips, plan, mechanism, draws)
            mean, deviation = float(shifts.mean()), float(shifts.std(ddof=1))
            print(
                f"{rate:13g}{predicted.mean:18.2e}{mean:11.2e}{mean / predicted.mean:7.2f}"
                f"{predicted.standard_deviation:18.2e}{deviation:10.2e}"
                f"{deviation / predicted.standard_deviation:7.2f}"
            )


def measured(
    network: nn.Module,
    clips: tuple[torch.Tensor, torch.Tensor],
    plan: TrainingPlan,
    mechanism: GaussianMechanism,
    draws: int,
) -> np.ndarray:
    """Return the rate after a private step minus that after a plain one, for each noise drawn."""

    def rate(noise: int | None) -> float:
        trained = copy.deepcopy(network)
        batches = torch.Generator().manual_seed(1)
        private = None if noise is None else mechanism
        generator = None if noise is None else torch.Generator().manual_seed(100 + noise)
        train(trained, *clips, plan, batches=batches, mechanism=private, noise=generator)
        labels = int(clips[1].max()) + 1
        return evaluate(trained, *clips, labels, rates_alone=True).firing.rate()

    shadow = rate(None)
    return np.array([rate(draw) - shadow for draw in range(draws)])
