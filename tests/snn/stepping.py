"""snnTorch's neurons one step after another, and what ours are compared with."""

from __future__ import annotations

from collections.abc import Callable

import snntorch
import torch
from snntorch import surrogate as peer
from torch import Tensor, nn


class FastSigmoid(peer.FastSigmoid):
    """snnTorch's surrogate without its cast of every spike to float32."""

    @staticmethod
    def forward(ctx, input_, slope):
        return peer.FastSigmoid.forward(ctx, input_, slope).to(input_.dtype)


def fast_sigmoid(slope: float) -> Callable[[Tensor], Tensor]:
    return lambda x: FastSigmoid.apply(x, slope)


def currents(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step_through_time(neuron: nn.Module, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return snnTorch's spikes and membranes, [B, T, F]."""
    zero = torch.zeros_like(current[:, 0])
    two = isinstance(neuron, snntorch.RLeaky | snntorch.Synaptic)
    states = (zero, zero) if two else (zero,)  # of `RLeaky` the spikes are one
    results = []
    for step in current.unbind(1):
        result = neuron(step, *states)
        results.append((result[0], result[-1]))
        states = result if isinstance(neuron, snntorch.RLeaky) else result[1:]
    spikes, membranes = zip(*results, strict=True)
    return torch.stack(spikes, 1), torch.stack(membranes, 1)


def assert_observed(ours: nn.Module, current: Tensor, reference: Tensor, membrane: Tensor) -> None:
    """Assert that spikes are the reference's to the bit, and statistics those of the membrane."""
    assert 0.05 < reference.mean().item() < 0.9
    assert torch.equal(ours(current), reference)
    spikes, statistics = ours.observe(current)  # pyright: ignore[reportCallIssue] - a layer of ours
    assert torch.equal(spikes, reference)
    assert torch.equal(statistics.spike_counts, reference.sum(1).int())
    mean = membrane.detach().double().mean((0, 1))
    assert torch.allclose(statistics.membrane_mean(), mean)


def assert_same_gradients(
    mine: list[Tensor], theirs: list[Tensor], spikes: Tensor, reference: Tensor, tolerance: float
) -> None:
    """Assert that a backward pass from each leads to the same gradients, in their own scale."""
    assert torch.equal(spikes, reference)
    weights = currents(*spikes.shape, seed=1).to(spikes)
    (spikes * weights).sum().backward()
    (reference * weights).sum().backward()
    for parameter, expected in zip(mine, theirs, strict=True):
        assert parameter.grad is not None
        assert expected.grad is not None
        scale = expected.grad.abs().max()
        assert scale > 0
        assert (parameter.grad - expected.grad).abs().max() / scale < tolerance
