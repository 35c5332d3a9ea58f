"""The twin of a spiking layer against snnTorch's leaky integrator, PyTorch and closed forms."""

import pytest
import snntorch
import torch
from stepping import currents
from torch import Tensor

from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.recurrent import RecurrentRectified

BACKENDS = ["numba", "torch"]


def layer(backend: str, *, recurrent: bool, bias: bool = True) -> Rectified:
    decays, offsets = torch.linspace(0.3, 0.95, 5), torch.linspace(-0.2, 0.3, 5)
    options = {"learn_beta": True, "learn_threshold": True, "backend": backend}
    if not recurrent:
        return Rectified(decays, offsets, **options).double()
    torch.manual_seed(3)
    return RecurrentRectified(5, decays, offsets, bias=bias, **options).double()


def stepped(neurons: Rectified, current: Tensor) -> tuple[Tensor, Tensor]:
    """Return activations and membranes [B, T, F] one step after another, by autograd."""
    beta, threshold = neurons.beta, neurons.threshold
    membrane = activation = torch.zeros_like(current[:, 0])
    found = []
    for now in current.unbind(1):
        drive = now
        if isinstance(neurons, RecurrentRectified):
            drive = now + activation @ neurons.weight.T
            drive = drive if neurons.bias is None else drive + neurons.bias
        membrane = beta * membrane + (1 - beta) * drive
        activation = (membrane - threshold).clamp(min=0)
        found.append((activation, membrane))
    activations, membranes = zip(*found, strict=True)
    return torch.stack(activations, 1), torch.stack(membranes, 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_membranes_are_those_of_snntorchs_leaky_without_a_reset(backend):
    peer = snntorch.Leaky(0.9, threshold=1e9, reset_mechanism="none")
    current, membrane, expected = currents(4, 30, 6), torch.zeros(4, 6), []
    for now in (0.1 * current).unbind(1):
        membrane = peer(now, membrane)[1]
        expected.append(membrane)
    membranes = torch.stack(expected, 1)
    activations, statistics = Rectified(0.9, backend=backend).observe(current)
    torch.testing.assert_close(activations, membranes.relu())
    torch.testing.assert_close(statistics.spike_counts, membranes.relu().sum(1))
    mean = membranes.double().mean((0, 1))
    torch.testing.assert_close(statistics.membrane_mean(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("recurrent", "bias"), [(False, False), (True, True), (True, False)])
def test_activations_and_all_gradients_are_those_of_plain_autograd(recurrent, bias, backend):
    neurons = layer(backend, recurrent=recurrent, bias=bias)
    current = currents(4, 20, 5).double().requires_grad_()
    sought = [current, *neurons.parameters()]
    weights = currents(4, 20, 5, seed=1).double()
    expected, _ = stepped(neurons, current)
    found = neurons(current)
    assert 0.1 < float((expected > 0).double().mean()) < 0.9
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    theirs = torch.autograd.grad((expected * weights).sum(), sought)
    mine = torch.autograd.grad((found * weights).sum(), sought)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_way_back_gives_the_gradients_of_each_clip_alone(recurrent, backend):
    neurons = layer(backend, recurrent=recurrent)
    current, weights = (currents(3, 15, 5, seed=seed).double() for seed in (0, 1))
    with torch.no_grad():
        _, back = neurons.forward_and_back(current.clone(), overwrite=True)
        grad_current, gradients = back(weights.clone())
    assert set(gradients) == set(neurons.parameters())
    for clip in range(3):
        one = current[clip : clip + 1].clone().requires_grad_()
        loss = (stepped(neurons, one)[0] * weights[clip]).sum()
        alone = torch.autograd.grad(loss, [one, *gradients])
        torch.testing.assert_close(grad_current[clip], alone[0][0])
        for found, expected in zip(gradients.values(), alone[1:], strict=True):
            torch.testing.assert_close(found[clip], expected)


def test_a_constant_current_is_reached_with_the_time_constant_of_the_decay():
    """u[t] = I (1 − β^(t+1)): gain one, and 1 − 1/e of the way after −1/ln β steps."""
    current = torch.full((1, 60, 1), 2.0, dtype=torch.double)
    steps = torch.arange(1, 61, dtype=torch.double)
    expected = 2.0 * (1 - 0.9**steps)
    torch.testing.assert_close(Rectified(0.9).double()(current)[0, :, 0], expected)


def test_statistics_are_sums_of_activations_and_no_whole_numbers():
    neurons, current = Rectified(0.5), currents(2, 10, 3)
    activations, statistics = neurons.observe(current)
    torch.testing.assert_close(statistics.spike_counts, activations.sum(1))
    assert statistics.spike_counts.is_floating_point()
