"""RecurrentLIF against stepping snnTorch's `RLeaky`."""

import pytest
import snntorch
import stepping
import torch
from stepping import currents, step_through_time

from fnl.snn import surrogates
from fnl.snn.neurons.recurrent import RecurrentLIF

BACKENDS = ["numba", "torch"]


def pair(dtype: torch.dtype, features: int, **options) -> tuple[RecurrentLIF, snntorch.RLeaky]:
    """Return both neurons with the same weights, multiples of 1/64: their sums are exact."""
    backend, bias = options.pop("backend"), options.pop("bias", True)
    ours = RecurrentLIF(
        features, 0.9, 0.75, bias=bias, learn_beta=True, learn_threshold=True,
        surrogate=surrogates.fast_sigmoid(5.0), backend=backend, **options,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    weight = torch.randint(-32, 33, (features, features), generator=generator) / 64
    offset = torch.randint(-8, 9, (features,), generator=generator) / 64
    stepped = snntorch.RLeaky(
        0.9, linear_features=features, threshold=0.75, learn_beta=True, learn_threshold=True,
        spike_grad=stepping.fast_sigmoid(5.0), reset_mechanism=options["reset"],
        reset_delay=options["reset_delay"],
    )  # fmt: skip
    with torch.no_grad():
        ours.weight.copy_(weight)
        stepped.recurrent.weight.copy_(weight)
        stepped.recurrent.bias.copy_(offset if bias else torch.zeros(features))
        if ours.bias is not None:
            ours.bias.copy_(offset)
    return ours.to(dtype), stepped.to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_spikes_are_snntorchs_to_the_bit_where_the_recurrent_sums_are_exact(
    reset, reset_delay, backend
):
    ours, stepped = pair(torch.float32, 9, reset=reset, reset_delay=reset_delay, backend=backend)
    current = currents(6, 40, 9)
    stepping.assert_observed(ours, current, *step_through_time(stepped, current))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_gradients_agree_to_1e_minus_11_in_float64(reset, reset_delay, bias, backend):
    ours, stepped = pair(
        torch.float64, 5, reset=reset, reset_delay=reset_delay, bias=bias, backend=backend
    )
    mine, theirs = (currents(4, 30, 5).double().requires_grad_() for _ in range(2))
    parameters = [mine, ours.beta, ours.threshold, ours.weight]
    references = [theirs, stepped.beta, stepped.threshold, stepped.recurrent.weight]
    if ours.bias is not None:
        parameters.append(ours.bias)
        references.append(stepped.recurrent.bias)
    reference, _ = step_through_time(stepped, theirs)
    stepping.assert_same_gradients(parameters, references, ours(mine), reference, 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_batch_has_no_spikes_and_zero_gradients(backend):
    ours, _ = pair(torch.float32, 3, reset="subtract", reset_delay=True, backend=backend)
    current = torch.zeros(0, 5, 3, requires_grad=True)
    ours(current).sum().backward()
    assert current.grad.shape == (0, 5, 3)
    assert not ours.weight.grad.any()


def test_a_current_for_another_number_of_neurons_is_refused():
    with pytest.raises(ValueError, match="has 3 neurons, got a current for 4"):
        RecurrentLIF(3, 0.9)(torch.zeros(2, 5, 4))
