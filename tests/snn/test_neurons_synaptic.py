"""Synaptic neurons against stepping snnTorch's `Synaptic`."""

import pytest
import snntorch
import stepping
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stepping import currents, step_through_time
from torch import Tensor

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.synaptic import Synaptic

BACKENDS = ["numba", "torch"]
RESETS = ["subtract", "zero", "none"]


def pair(reset: str, reset_delay: bool, backend: str) -> tuple[Synaptic, snntorch.Synaptic]:
    alpha, beta, threshold = (
        torch.linspace(0.2, 0.9, 7), torch.linspace(0.95, 0.5, 7), torch.linspace(0.4, 1.1, 7)
    )  # fmt: skip
    ours = Synaptic(
        alpha, beta, threshold, reset=reset, reset_delay=reset_delay, backend=backend,
        learn_alpha=True, learn_beta=True, learn_threshold=True,
        surrogate=surrogates.fast_sigmoid(5.0),
    )  # fmt: skip
    stepped = snntorch.Synaptic(
        alpha.clone(), beta.clone(), threshold=threshold.clone(), reset_mechanism=reset,
        reset_delay=reset_delay, learn_alpha=True, learn_beta=True, learn_threshold=True,
        spike_grad=stepping.fast_sigmoid(5.0),
    )  # fmt: skip
    return ours, stepped


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_spikes_are_snntorchs_to_the_bit_and_so_are_the_statistics(reset, reset_delay, backend):
    ours, stepped = pair(reset, reset_delay, backend)
    current = currents(6, 40, 7, scale=0.4)
    stepping.assert_observed(ours, current, *step_through_time(stepped, current))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_gradients_are_snntorchs(reset, reset_delay, backend, dtype):
    ours, stepped = (neuron.to(dtype) for neuron in pair(reset, reset_delay, backend))
    mine, theirs = (currents(4, 30, 7, scale=0.4).to(dtype).requires_grad_() for _ in range(2))
    stepping.assert_same_gradients(
        [mine, ours.alpha, ours.beta, ours.threshold],
        [theirs, stepped.alpha, stepped.beta, stepped.threshold],
        ours(mine),
        step_through_time(stepped, theirs)[0],
        1e-5 if dtype == torch.float32 else 1e-11,
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 19)),
    alpha=st.floats(0, 1, width=32),
    beta=st.floats(0, 1, width=32),
    threshold=st.floats(-1, 3, width=32),
    reset=st.sampled_from(RESETS),
    reset_delay=st.booleans(),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_spikes_equal_snntorchs_for_any_setting(  # noqa: PLR0917 - named by hypothesis
    shape, alpha, beta, threshold, reset, reset_delay, scale, seed
):
    current = currents(*shape, seed=seed, scale=scale)
    options = {"reset_delay": reset_delay}
    ours = Synaptic(alpha, beta, threshold, reset=reset, **options)
    stepped = snntorch.Synaptic(alpha, beta, threshold=threshold, reset_mechanism=reset, **options)
    assert torch.equal(ours(current), step_through_time(stepped, current)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_synaptic_memory_the_neurons_are_lif(backend):
    current, weights = currents(3, 25, 5), currents(3, 25, 5, seed=1, scale=0.4)
    mine, theirs = (current.clone().requires_grad_() for _ in range(2))
    spikes, expected = Synaptic(0.0, 0.9, backend=backend)(mine), LIF(0.9)(theirs)
    assert torch.equal(spikes, expected)
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("learns", [True, False])
def test_the_current_is_kept_for_the_backward_pass_only_where_a_parameter_is_trained(learns):
    current, saved = currents(8, 50, 16, scale=0.4).requires_grad_(), []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    layer = Synaptic(0.5, 0.9, learn_beta=learns)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(current)
    assert max(saved) == current.numel()
    assert saved.count(current.numel()) == (2 if learns else 1)


def test_impossible_synapses_are_refused():
    with pytest.raises(ConfigError, match="alpha must lie in"):
        Synaptic(1.5, 0.9)
    with pytest.raises(ValueError, match="Synaptic has 3 values of alpha, got 4 neurons"):
        Synaptic(torch.full((3,), 0.5), 0.9)(torch.zeros(1, 2, 4))
