"""A gradient that is not finite cannot be clipped: it is left out."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.snn.network import build_network, initialise
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from tests.training.small import sgd

WAYS = list(
    itertools.product(["flat", "per-layer", "adaptive", "automatic"], ["per-clip", "ghost"])
)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs * self.gain).mean(dim=1)


def spiking() -> nn.Module:
    network = build_network(ModelGroup(hidden="10,8", normalisation="none"), 5, 3)
    initialise(network, 0)
    return network


def step(network: nn.Module, features: Tensor, labels: Tensor, clipping, method) -> Tensor:
    trained = copy.deepcopy(network)
    # a learning rate of n: the sum over clips, whatever the divisor
    train(
        trained, features, labels, sgd(1, 1.0, float(len(labels))),
        batches=torch.Generator(), noise=torch.Generator(),
        mechanism=GaussianMechanism(0.0, 0.5, clipping, method),
    )  # fmt: skip
    before = torch.cat([p.detach().reshape(-1) for p in network.parameters() if p.requires_grad])
    after = torch.cat([p.detach().reshape(-1) for p in trained.parameters() if p.requires_grad])
    return after - before


@pytest.mark.parametrize(("clipping", "method"), WAYS)
@pytest.mark.parametrize(
    ("network", "poison"),
    # 1e25 squared is above what single precision holds; spikes hide how large an input was
    [*itertools.product([Linear()], [torch.inf, torch.nan, 1e25]), (spiking(), torch.nan)],
)
def test_a_clip_without_a_finite_gradient_moves_nothing(network, poison, clipping, method):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, 5, generator=generator)
    labels = torch.arange(6) % 3
    poisoned = features.clone()
    poisoned[2] = poison
    kept = [0, 1, 3, 4, 5]
    expected = step(network, features[kept], labels[kept], clipping, method)
    got = step(network, poisoned, labels, clipping, method)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
