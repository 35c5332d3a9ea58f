"""Adaptive neurons against autograd through the equations, and against a loop in plain Python."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.neurons.adaptive import AdaptiveLIF

BACKENDS = ["numba", "torch"]
RESETS = ["subtract", "zero", "none"]
ROWS = ("alpha", "beta", "a", "b", "threshold")
LEARNED = {f"learn_{name}": True for name in ROWS}


class _Spike(torch.autograd.Function):
    """Heaviside, with the fast sigmoid of slope 5 as derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + 5 * x.abs()) ** 2


def by_autograd(current: Tensor, values: dict[str, Tensor], reset: str) -> Tensor:
    """The equations of the docstring, step by step."""
    alpha, beta, a, b, threshold = (values[name] for name in ROWS)
    u = w = s = torch.zeros_like(current[:, 0])
    spikes = []
    for t in range(current.shape[1]):
        fired = s.detach()
        carried = alpha * u * (1 - fired) if reset == "zero" else alpha * u
        after = carried + (1 - alpha) * (current[:, t] - w)
        if reset == "subtract":
            after = after - threshold * fired
        w = beta * w + a * u + b * s
        u, s = after, _Spike.apply(after - threshold)
        spikes.append(s)
    return torch.stack(spikes, 1)


def by_hand(current: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
    """Spikes of the paper's neuron, one number at a time in Python's floats."""
    spikes = np.zeros_like(current)
    clips, steps, features = current.shape
    for clip, f in itertools.product(range(clips), range(features)):
        alpha, beta, a, b, threshold = (float(values[name][f]) for name in ROWS)
        u = w = s = 0.0
        for t in range(steps):
            drive = (1 - alpha) * (float(current[clip, t, f]) - w)
            w = beta * w + a * u + b * s
            u = alpha * u + drive - threshold * s
            s = float(u > threshold)
            spikes[clip, t, f] = s
    return spikes


def currents(*shape: int, seed: int = 0, scale: float = 8.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def values(features: int) -> dict[str, Tensor]:
    ends = {
        "alpha": (0.8, 0.97), "beta": (0.97, 0.99), "a": (-0.5, 0.5), "b": (0.0, 2.0),
        "threshold": (0.6, 1.1),
    }  # fmt: skip
    order = torch.randperm(features, generator=torch.Generator().manual_seed(4))
    return {
        name: torch.linspace(*ends[name], features, dtype=torch.float64)[order.roll(shift)]
        for shift, name in enumerate(ROWS)
    }


def layer(reset: str = "subtract", backend: str = "numba", features: int = 7) -> AdaptiveLIF:
    return AdaptiveLIF(
        **values(features), **LEARNED, reset=reset, backend=backend,
        surrogate=surrogates.fast_sigmoid(5.0),
    )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset", RESETS)
def test_spikes_and_gradients_are_those_of_autograd_through_the_equations(reset, backend):
    ours = layer(reset, backend)
    expected_values = {name: value.requires_grad_() for name, value in values(7).items()}
    mine, theirs = (currents(5, 60, 7).requires_grad_() for _ in range(2))
    weights = currents(5, 60, 7, seed=1)
    spikes, reference = ours(mine), by_autograd(theirs, expected_values, reset)
    assert 0.03 < reference.mean().item() < 0.6
    assert torch.equal(spikes, reference)
    (spikes * weights).sum().backward()
    (reference * weights).sum().backward()
    pairs = [(mine, theirs)] + [(getattr(ours, name), expected_values[name]) for name in ROWS]
    for parameter, expected in pairs:
        scale = expected.grad.abs().max()
        assert scale > 0
        assert (parameter.grad - expected.grad).abs().max() < 1e-11 * scale


@pytest.mark.parametrize("backend", BACKENDS)
def test_spikes_are_those_of_a_loop_in_python(backend):
    current = currents(3, 80, 9, seed=2)
    expected = by_hand(current.numpy(), {name: v.numpy() for name, v in values(9).items()})
    assert expected.sum() > 100
    assert np.array_equal(layer("subtract", backend, 9)(current).detach().numpy(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_come_out_of_the_same_pass(backend):
    current = currents(6, 30, 7)
    ours = layer(backend=backend)
    spikes, statistics = ours.observe(current)
    assert torch.equal(spikes, ours(current))
    assert torch.equal(statistics.spike_counts, spikes.sum(1).int())
    tensors = [ours.row_value(name).detach() for name in ROWS]
    _, membrane, _ = ours.scan.forward(current, tensors, ours.dynamics, save=True)
    assert torch.allclose(statistics.membrane_mean(), membrane.mean((0, 1)))
    variance = membrane.var((0, 1), correction=0)
    assert torch.allclose(statistics.membrane_variance(), variance)


def test_adaptation_by_spikes_lowers_the_rate_more_the_longer_a_neuron_fires():
    current = torch.full((1, 100, 1), 6.0)
    plain, adapting = (AdaptiveLIF(0.9, 0.98, 0.0, b)(current) for b in (0.0, 0.5))
    assert plain[0, 50:].sum() == pytest.approx(float(plain[0, :50].sum()), abs=2)
    assert adapting[0, 50:].sum() < 0.7 * adapting[0, :50].sum() < 0.7 * plain[0, :50].sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.1, 0.9, 0, 0), "alpha must lie in"),
        ((0.9, -0.1, 0, 0), "beta must lie in"),
        ((0.9, 0.9, -1.5, 0), r"a must lie in \[-1, 1\]"),
        ((0.9, 0.9, 0, 2.5), r"b must lie in \[0, 2\]"),
    ],
)
def test_impossible_neurons_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AdaptiveLIF(*arguments)
