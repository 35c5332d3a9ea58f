"""The formulas of first order against Opacus, torch's SGD and numbers by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from fnl.metrics.sensitivity import (
    ClipProjections,
    first_order_shift,
    step_weights,
)


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
