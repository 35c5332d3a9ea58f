"""The predicted rate shift against Monte Carlo over the noise of real DP-SGD steps.

Spikes are steps of the weights, so the derivative of a rate is not what a surrogate says it is.
Two references have no such gap: the rate's linearisation, and a network whose neurons fire by
degrees, where the derivative is exact and the rate is measured as in a run.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup, TrainingGroup
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.clipping import Clipping
from fnl.training.dp_sgd import train
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan
from fnl.training.sensitivity import predict_rate_shift, project, rate_gradient

CLIPS, STEPS, FEATURES, CLASSES = 40, 8, 5, 3
FEW, MANY = 40, 150  # a draw is a whole private step
DRAWS = DrawKeys.seeded(0, 1, 2)


class FiringByDegrees(nn.Module):
    """A leaky membrane and a sigmoid of it: no spike, no surrogate."""

    def forward(self, current: Tensor) -> Tensor:
        membrane, out = torch.zeros_like(current[:, 0]), []
        for step in current.unbind(1):
            membrane = 0.8 * membrane + step
            out.append(torch.sigmoid(2 * (membrane - 0.5)))
        return torch.stack(out, 1)


def spiking() -> SpikingNetwork:
    network = build_network(ModelGroup(hidden="12,8", threshold=0.5), FEATURES, CLASSES)
    initialise(network, 0)
    return network


def smooth() -> SpikingNetwork:
    network = spiking()
    network.neuron = nn.ModuleList([FiringByDegrees(), FiringByDegrees()])
    return network


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(CLIPS) % CLASSES
    features = torch.randn(CLIPS, STEPS, FEATURES, generator=generator)
    return features + labels[:, None, None], labels


def plan(
    steps: int = 1, sample_rate: float = 1.0, learning_rate: float = 1e-3, **options: object
) -> TrainingPlan:
    return TrainingPlan(
        steps, sample_rate, learning_rate, TrainingGroup(**{"optimizer": "sgd"} | options)
    )


def trained(
    network: SpikingNetwork,
    clips: tuple[Tensor, Tensor],
    steps: TrainingPlan,
    mechanism: GaussianMechanism | None,
    draw: int = 0,
) -> SpikingNetwork:
    """Return a trained copy; mini-batches are the same in every call, the noise is not."""
    result = copy.deepcopy(network)
    batches, noise = torch.Generator().manual_seed(7), torch.Generator().manual_seed(1000 + draw)
    train(result, *clips, steps, batches=batches, mechanism=mechanism, noise=noise)
    return result


def weights(network: SpikingNetwork) -> Tensor:
    return torch.cat([p.detach().double().flatten() for p in network.parameters()])


def test_the_gradient_of_the_rate_is_that_of_finite_differences(clips):
    gradient = rate_gradient(smooth(), clips[0])
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        moves = [torch.randn(g.shape, generator=generator) for g in gradient]
        rates = []
        for sign in (1, -1):
            moved = smooth()
            trainable = [p for p in moved.parameters() if p.requires_grad]
            with torch.no_grad():
                for parameter, move in zip(trainable, moves, strict=True):
                    parameter.add_(sign * 1e-3 * move)
            rates.append(evaluate(moved, *clips, CLASSES).firing.rate())
        expected = sum(float((g * m).sum()) for g, m in zip(gradient, moves, strict=True))
        assert (rates[0] - rates[1]) / 2e-3 == pytest.approx(expected, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("network", [spiking, smooth], ids=["spiking", "smooth"])
def test_projections_are_those_of_gradients_taken_clip_by_clip(network, clips):
    network = network()
    direction = rate_gradient(network, clips[0])
    assert sum(float(part.norm()) for part in direction) > 0
    projections = project(network, *clips, direction, loss=TrainingLoss())
    reference = copy.deepcopy(network)
    parameters = [p for p in reference.parameters() if p.requires_grad]
    for clip in (0, 1, 33, CLIPS - 1):
        logits = reference(clips[0][clip : clip + 1])
        loss = F.cross_entropy(logits, clips[1][clip : clip + 1])
        gradients = torch.autograd.grad(loss, parameters)
        norms = [float(g.norm()) for g in gradients]
        along = [float((g * d).sum()) for g, d in zip(gradients, direction, strict=True)]
        np.testing.assert_allclose(projections.norms[clip], norms, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(projections.along_rate[clip], along, rtol=1e-3, atol=1e-7)
    whole = float(torch.cat([d.flatten() for d in direction]).norm())
    assert projections.rate_gradient_norm == pytest.approx(whole, rel=1e-5)


MOMENTUM = plan(steps=5, learning_rate=1e-4, momentum=0.6)


@pytest.mark.parametrize(
    ("clipping", "steps", "draws"),
    [
        ("flat", plan(), FEW),
        pytest.param("flat", MOMENTUM, MANY, marks=pytest.mark.slow),
        pytest.param("per-layer", plan(), MANY, marks=pytest.mark.slow),
    ],
    ids=["one", "momentum", "per-layer"],
)
def test_the_linearised_shift_of_real_steps_has_the_predicted_mean_and_variance(
    clips, clipping: Clipping, steps, draws
):
    network = spiking()
    mechanism = GaussianMechanism(0.8, 0.5, clipping=clipping)
    predicted = predict_rate_shift(copy.deepcopy(network), clips, steps, mechanism, draws=DRAWS)
    gradient = iter(rate_gradient(copy.deepcopy(network), clips[0]))
    direction = torch.cat(
        [
            (next(gradient) if p.requires_grad else torch.zeros_like(p)).double().flatten()
            for p in network.parameters()
        ]
    )
    shadow = weights(trained(network, clips, steps, None))
    shifts = [
        float(direction @ (weights(trained(network, clips, steps, mechanism, draw)) - shadow))
        for draw in range(draws)
    ]
    assert_agree(np.array(shifts), predicted)
    # the mean is told apart from no shift at all: clipping is what is predicted
    assert abs(predicted.mean) > 4 * predicted.standard_deviation / len(shifts) ** 0.5


@pytest.mark.parametrize("draws", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_the_measured_shift_of_rates_has_the_predicted_mean_and_variance(clips, draws):
    network, steps = smooth(), plan(learning_rate=2e-3)
    mechanism = GaussianMechanism(8.0, 0.5)
    predicted = predict_rate_shift(copy.deepcopy(network), clips, steps, mechanism, draws=DRAWS)
    shadow = evaluate(trained(network, clips, steps, None), *clips, CLASSES).firing.rate()
    shifts = [
        evaluate(trained(network, clips, steps, mechanism, draw), *clips, CLASSES).firing.rate()
        - shadow
        for draw in range(draws)
    ]
    assert_agree(np.array(shifts), predicted, slack=0.03)
    assert abs(predicted.mean) > 4 * predicted.standard_deviation / draws**0.5


def assert_agree(shifts: np.ndarray, predicted, slack: float = 0.0) -> None:
    """Hold a sample to a mean and a deviation: 4 standard errors, and `slack` of second order."""
    error = predicted.standard_deviation / len(shifts) ** 0.5
    assert abs(shifts.mean() - predicted.mean) < 4 * error + slack * abs(predicted.mean)
    ratio = shifts.std(ddof=1) / predicted.standard_deviation
    assert abs(ratio - 1) < 4 / (2 * (len(shifts) - 1)) ** 0.5 + slack


def test_more_noise_and_tighter_clipping_are_told_apart(clips):
    def shift(noise: float, clip_norm: float):
        mechanism = GaussianMechanism(noise, clip_norm)
        return predict_rate_shift(spiking(), clips, plan(), mechanism, draws=DRAWS)

    loose, tight, noisy = shift(1.0, 1e6), shift(1.0, 0.1), shift(2.0, 0.1)
    assert loose.mean == 0  # nothing is clipped
    assert noisy.mean == tight.mean != 0
    assert noisy.standard_deviation == pytest.approx(2 * tight.standard_deviation)


def test_adam_has_no_prediction(clips):
    with pytest.raises(ValueError, match="for sgd, not for adam"):
        predict_rate_shift(
            spiking(), clips, plan(optimizer="adam"), GaussianMechanism(1.0, 1.0), draws=DRAWS
        )
