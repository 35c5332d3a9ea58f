"""The round's work in a bare Python loop: the least that any framework can cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor, nn

from benchmarks.round_work import RoundWork, examples, streams, train_in_order
from fnl.weights import Weights, get_weights


def run_bare(work: RoundWork, rounds: int, on_round: Callable[[], None]) -> Weights:
    """Run the rounds and return the last global weights; see `round_app.serve`."""
    network = work.network()
    parameters = list(network.parameters())
    on_round()
    with warnings.catch_warnings():
        # Opacus' hook on the first layer, whose input has no gradient, makes torch warn
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        for server_round in range(1, rounds + 1):
            start = [parameter.detach().clone() for parameter in parameters]
            mean = [torch.zeros_like(parameter) for parameter in start]
            for partition in work.candidates(server_round):
                _copy(parameters, start)
                features, labels = examples(work)[partition]
                if work.private:
                    generators = streams(work, partition, server_round)
                    _train_with_opacus(network, (features, labels), work, generators)
                else:
                    train_in_order(network, features, labels, work)
                for total, parameter in zip(mean, parameters, strict=True):
                    total.add_(parameter.detach(), alpha=1 / work.asked)
            _copy(parameters, mean)
            on_round()
    return get_weights(network)


@torch.no_grad()
def _copy(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _train_with_opacus(
    network: nn.Module,
    clips: tuple[Tensor, Tensor],
    work: RoundWork,
    generators: tuple[torch.Generator, torch.Generator],
) -> None:
    """Train as Opacus' own tutorials do, on Poisson samples."""
    (features, labels), (batches, noise) = clips, generators
    plan, mechanism = work.plan, work.mechanism
    module = GradSampleModule(network)
    optimizer = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=plan.learning_rate),
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=mechanism.clip_norm,
        expected_batch_size=work.batch,
        generator=noise,
    )
    sampler = UniformWithReplacementSampler(
        num_samples=len(labels), sample_rate=plan.sample_rate, generator=batches, steps=plan.steps
    )
    for rows in sampler:
        if not rows:
            raise ValueError("an empty batch: make the expected batch larger")
        optimizer.zero_grad()
        F.cross_entropy(module(features[rows]), labels[rows]).backward()
        optimizer.step()
    module.to_standard_module()
