"""FedProx: the pull to the start comes on top of the step, after clipping and noise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from tests.training.small import sgd

MECHANISMS = {
    "none": None,
    "per-clip": GaussianMechanism(0.7, 0.5),
    "ghost": GaussianMechanism(0.7, 0.5, clipping_method="ghost"),
}


class Mean(nn.Module):
    """Time mean, then a linear read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.fill_(0.25)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(features).mean(1)


def trained(mechanism, steps: int, mu: float) -> torch.Tensor:
    features = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    network = Mean()
    train(
        network,
        features,
        labels,
        sgd(steps, 0.5, 0.1, proximal_mu=mu),
        batches=torch.Generator().manual_seed(2),
        mechanism=mechanism,
        noise=torch.Generator().manual_seed(3),
    )
    return network.linear.weight.detach().clone()


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_first_step_is_free_and_the_second_is_pulled_by_its_length(name):
    mechanism, mu = MECHANISMS[name], 2.0
    start = Mean().linear.weight.detach()
    one = trained(mechanism, 1, mu)
    assert torch.equal(one, trained(mechanism, 1, 0.0))
    # the second step's own gradient is the same at w₁; on top comes -η μ (w₁ - w₀), not clipped
    pulled, free = trained(mechanism, 2, mu), trained(mechanism, 2, 0.0)
    torch.testing.assert_close(pulled - free, -0.1 * mu * (one - start))
    assert (one - start).abs().min() > 0


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_strong_pull_keeps_the_weights_near_the_start(name):
    start = Mean().linear.weight.detach()
    near = (trained(MECHANISMS[name], 60, 5.0) - start).norm()
    assert near < 0.8 * (trained(MECHANISMS[name], 60, 0.0) - start).norm()
