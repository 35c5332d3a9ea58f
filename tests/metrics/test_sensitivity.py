"""The formulas of first order against Opacus, torch's SGD and numbers by hand."""

import numpy as np
import pytest
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from fnl.metrics.sensitivity import (
    ClipProjections,
    clip_factors,
    first_order_shift,
    step_weights,
)


def test_flat_factors_are_those_opacus_clips_by():
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(9, 3, 2, generator=generator), torch.randn(9, 4, generator=generator)]
    parameters = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    for parameter, sample in zip(parameters, samples, strict=True):
        parameter.grad_sample = sample
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=2.5,
        expected_batch_size=1,
    )
    optimizer.clip_and_accumulate()
    norms = np.stack([s.reshape(9, -1).norm(2, dim=1).numpy() for s in samples], axis=1)
    factors = clip_factors(norms.astype(float), 2.5, "flat")
    assert 0 < (factors[:, 0] < 1).sum() < 9
    for column, (parameter, sample) in enumerate(zip(parameters, samples, strict=True)):
        expected = np.tensordot(factors[:, column], sample.numpy(), axes=1)
        np.testing.assert_allclose(parameter.summed_grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_per_layer_factors_bound_each_parameter_by_its_share():
    norms = np.array([[3.0, 0.5], [0.0, 4.0]])
    factors = clip_factors(norms, 2.0, "per-layer")
    np.testing.assert_allclose(factors, [[2**0.5 / 3, 1], [1, 2**0.5 / 4]])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_step_weights_are_how_torchs_sgd_adds_up_gradients(momentum):
    parameter = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum)
    for step in range(5):
        parameter.grad = torch.eye(5, dtype=torch.float64)[step]
        optimizer.step()
    np.testing.assert_allclose(-10 * parameter.detach().numpy(), step_weights(5, momentum))


def test_one_step_by_hand():
    # two clips: one of norm 5 clipped to 1, one of norm 0.5 left alone
    projections = ClipProjections(
        norms=np.array([[3.0, 4.0], [0.3, 0.4]]),
        along_rate=np.array([[2.0, -1.0], [7.0, 7.0]]),
        rate_gradient_norm=0.25,
    )
    shift = first_order_shift(
        projections,
        clip_norm=1.0,
        clipping="flat",
        noise_multiplier=3.0,
        expected_batch=8.0,
        learning_rate=0.1,
        steps=1,
    )
    # b_C·∇r = ((1/5 − 1)(2 − 1) + 0) / 2
    assert shift.mean == pytest.approx(-0.1 * (-0.8 / 2))
    assert shift.standard_deviation == pytest.approx(0.1 * 3 * 1 / 8 * 0.25)


def test_steps_add_up_means_and_variances():
    projections = ClipProjections(np.array([[4.0]]), np.array([[1.0]]), 1.0)
    options = {"clip_norm": 1.0, "clipping": "flat", "noise_multiplier": 1.0}
    options |= {"expected_batch": 2.0, "learning_rate": 0.1}
    one = first_order_shift(projections, steps=1, **options)
    nine = first_order_shift(projections, steps=9, **options)
    assert nine.mean == pytest.approx(9 * one.mean)
    assert nine.standard_deviation == pytest.approx(3 * one.standard_deviation)
    heavy = first_order_shift(projections, steps=400, momentum=0.5, **options)
    assert heavy.mean == pytest.approx(2 * 400 * one.mean, rel=0.01)
