"""LIF and the readout against stepping snnTorch's `Leaky`."""

import pytest
import snntorch
import stepping
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate as peer
from stepping import fast_sigmoid, step_through_time
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.neurons.lif import LIF, LeakyReadout

BACKENDS = ["numba", "torch"]
PAIRS = {
    "straight_through": (surrogates.straight_through(), peer.straight_through_estimator()),
    "triangular": (surrogates.triangular(0.7), peer.triangular(0.7)),
    "fast_sigmoid": (surrogates.fast_sigmoid(10.0), peer.fast_sigmoid(10.0)),
    "atan": (surrogates.atan(3.0), peer.atan(3.0)),
    "sigmoid": (surrogates.sigmoid(5.0), peer.sigmoid(5.0)),
    "heaviside": (surrogates.heaviside(), peer.heaviside()),
    "spike_rate_escape": (
        surrogates.spike_rate_escape(beta=2.0, slope=3.0),
        peer.spike_rate_escape(beta=2.0, slope=3.0),
    ),
    "sparse_fast_sigmoid": (surrogates.sparse_fast_sigmoid(4.0, -0.5), peer.SFS(4.0, -0.5)),
}


def currents(*shape: int, seed: int = 0, scale: float = 0.7) -> Tensor:
    return stepping.currents(*shape, seed=seed, scale=scale)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("name", PAIRS)
def test_spikes_are_snntorchs_to_the_bit_and_gradients_to_1e5(name, reset, reset_delay, backend):
    ours_surrogate, peer_surrogate = PAIRS[name]
    beta, threshold = torch.linspace(0.5, 1.0, 11), torch.linspace(0.3, 1.2, 11)
    ours = LIF(
        beta, threshold, reset=reset, reset_delay=reset_delay, surrogate=ours_surrogate,
        learn_beta=True, learn_threshold=True, backend=backend,
    )  # fmt: skip
    stepped = snntorch.Leaky(
        beta.clone(), threshold=threshold.clone(), spike_grad=peer_surrogate,
        reset_mechanism=reset, reset_delay=reset_delay, learn_beta=True, learn_threshold=True,
    )  # fmt: skip
    mine, theirs = (currents(5, 23, 11).requires_grad_() for _ in range(2))
    weights = currents(5, 23, 11, seed=1)
    spikes = ours(mine)
    reference, _ = step_through_time(stepped, theirs)
    assert 0.03 < reference.mean().item() < 0.9
    assert torch.equal(spikes, reference)
    (spikes * weights).sum().backward()
    (reference * weights).sum().backward()
    for gradient, expected in [
        (mine.grad, theirs.grad),
        (ours.beta.grad, stepped.beta.grad),
        (ours.threshold.grad, stepped.threshold.grad),
    ]:
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(gradient / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_gradients_agree_to_1e_minus_12_in_float64(reset, reset_delay, backend):
    ours = LIF(
        0.93, 0.8, reset=reset, reset_delay=reset_delay, surrogate=surrogates.fast_sigmoid(5.0),
        learn_beta=True, learn_threshold=True, backend=backend,
    ).double()  # fmt: skip
    stepped = snntorch.Leaky(
        0.93, threshold=0.8, spike_grad=fast_sigmoid(5.0),
        reset_mechanism=reset, reset_delay=reset_delay, learn_beta=True, learn_threshold=True,
    ).double()  # fmt: skip
    mine, theirs = (currents(4, 60, 3).double().requires_grad_() for _ in range(2))
    stepping.assert_same_gradients(
        [mine, ours.beta, ours.threshold],
        [theirs, stepped.beta, stepped.threshold],
        ours(mine),
        step_through_time(stepped, theirs)[0],
        1e-12,
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 19)),
    beta=st.floats(0, 1, width=32),
    threshold=st.floats(-1, 3, width=32),
    reset=st.sampled_from(["subtract", "zero", "none"]),
    reset_delay=st.booleans(),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_spikes_equal_snntorchs_for_any_setting(  # noqa: PLR0917 - named by hypothesis
    shape, beta, threshold, reset, reset_delay, scale, seed
):
    current = currents(*shape, seed=seed, scale=scale)
    ours = LIF(beta, threshold, reset=reset, reset_delay=reset_delay)
    stepped = snntorch.Leaky(
        beta, threshold=threshold, reset_mechanism=reset, reset_delay=reset_delay
    )
    reference, _ = step_through_time(stepped, current)
    assert torch.equal(ours(current), reference)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_statistics_are_those_of_snntorchs_spikes_and_membranes(reset, reset_delay, backend):
    current = currents(6, 31, 7)
    ours = LIF(0.9, 0.8, reset=reset, reset_delay=reset_delay, backend=backend)
    stepped = snntorch.Leaky(0.9, threshold=0.8, reset_mechanism=reset, reset_delay=reset_delay)
    reference, membrane = step_through_time(stepped, current)
    spikes, first = ours.observe(current[:2])
    rest_spikes, rest = ours.observe(current[2:])
    statistics = first.merge(rest)
    assert torch.equal(torch.cat([spikes, rest_spikes]), reference)
    assert torch.equal(statistics.spike_counts, reference.sum(1).int())
    assert torch.allclose(statistics.firing_rate(), reference.double().mean(1))
    u = membrane.detach().double()
    mean, variance = u.mean((0, 1)), u.var((0, 1), correction=0)
    lagged = ((u[:, 1:] - mean) * (u[:, :-1] - mean)).sum((0, 1)) / ((u - mean) ** 2).sum((0, 1))
    assert torch.allclose(statistics.membrane_mean(), mean)
    assert torch.allclose(statistics.membrane_variance(), variance)
    assert torch.allclose(statistics.membrane_autocorrelation(), lagged)


def test_statistics_of_different_lengths_do_not_merge():
    layer = LIF(0.9)
    _, short = layer.observe(currents(1, 4, 3))
    _, long = layer.observe(currents(1, 5, 3))
    with pytest.raises(ValueError, match="4 steps of 3 neurons with 5 steps of 3"):
        short.merge(long)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_current_may_lie_in_memory_in_any_order(backend):
    layer = LIF(0.9, 0.8, backend=backend)
    transposed = currents(9, 4, 6).transpose(0, 1).requires_grad_()
    copied = transposed.detach().contiguous().requires_grad_()
    assert not transposed.is_contiguous()
    layer(transposed)[:, ::2].sum().backward()
    layer(copied)[:, ::2].sum().backward()
    assert torch.equal(transposed.grad, copied.grad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_batch_has_no_spikes_and_zero_gradients(backend):
    layer = LIF(0.9, learn_beta=True, learn_threshold=True, backend=backend)
    current = torch.zeros(0, 5, 3, requires_grad=True)
    spikes = layer(current)
    spikes.sum().backward()
    assert spikes.shape == current.grad.shape == (0, 5, 3)
    assert layer.beta.grad == 0
    assert layer.threshold.grad == 0
    _, statistics = layer.observe(current)
    assert statistics.spike_counts.shape == (0, 3)
    assert bool(torch.isnan(statistics.membrane_mean()).all())


def test_only_one_membrane_tensor_is_kept_for_the_backward_pass():
    current = currents(8, 50, 16).requires_grad_()
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        LIF(0.9)(current)
    assert sum(t.numel() for t in saved) == current.numel() + 2 * 16


def test_a_second_derivative_is_refused():
    current = currents(2, 5, 3).requires_grad_()
    (gradient,) = torch.autograd.grad((LIF(0.9)(current) ** 2).sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_learned_beta_outside_zero_to_one_acts_as_the_nearest_bound_without_gradient():
    layer = LIF(0.9, learn_beta=True)
    with torch.no_grad():
        layer.beta.fill_(1.5)
    current = currents(2, 9, 3)
    spikes = layer(current)
    assert torch.equal(spikes, LIF(1.0)(current))
    spikes.sum().backward()
    assert layer.beta.grad == 0


def test_the_sigmoid_map_has_the_same_neurons_and_the_chained_gradient():
    current, weights = currents(3, 20, 5), currents(3, 20, 5, seed=1)
    clamped = LIF(0.8, learn_beta=True)
    mapped = LIF(0.8, learn_beta=True, beta_map="sigmoid")
    (clamped(current) * weights).sum().backward()
    (mapped(current) * weights).sum().backward()
    assert torch.allclose(mapped.decay(), torch.tensor(0.8))
    assert torch.allclose(mapped.beta.grad, clamped.beta.grad * 0.8 * 0.2, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.2}, "beta must lie in"),
        ({"beta": float("nan")}, "beta must be finite"),
        ({"beta": torch.ones(2, 2)}, r"one or \[F\]"),
        ({"beta": 0.9, "threshold": float("inf")}, "threshold must be finite"),
        ({"beta": 0.9, "reset": "soft"}, "'soft' is unknown: choose one of subtract, zero, none"),
        ({"beta": 0.9, "beta_map": "exp"}, "choose clamp or sigmoid"),
        ({"beta": 1.0, "beta_map": "sigmoid"}, "0 < beta < 1"),
    ],
)
def test_impossible_neurons_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LIF(**arguments)


@pytest.mark.parametrize("shape", [(4, 3), (2, 0, 3), (2, 5, 4)])
def test_a_current_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="LIF"):
        LIF(torch.full((3,), 0.9))(torch.zeros(shape))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_the_readout_is_the_mean_membrane_of_a_leaky_that_never_resets(beta, bias):
    torch.manual_seed(0)
    readout = LeakyReadout(8, 4, beta, bias=bias).double()
    spikes = (currents(5, 30, 8) > 0).double()
    mine, theirs = spikes.clone().requires_grad_(), spikes.clone().requires_grad_()
    leaky = snntorch.Leaky(beta, threshold=1e9, reset_mechanism="none").double()
    _, membrane = step_through_time(leaky, readout.linear(theirs))
    expected = membrane.mean(1)
    scores = readout(mine)
    # snnTorch keeps β as a float32 number, whatever `.double()` makes of it later.
    assert torch.allclose(scores, expected, rtol=1e-6)
    targets = torch.tensor([0, 1, 2, 3, 0])
    for output, source in [(scores, mine), (expected, theirs)]:
        readout.zero_grad()
        nn.functional.cross_entropy(output, targets).backward()
        source.parameter_gradients = [p.grad.clone() for p in readout.parameters()]
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-5)
    for gradient, reference in zip(
        mine.parameter_gradients, theirs.parameter_gradients, strict=True
    ):
        assert torch.allclose(gradient, reference, rtol=1e-5)


def test_an_impossible_readout_is_refused():
    with pytest.raises(ConfigError, match="the readout's beta"):
        LeakyReadout(3, 2, beta=1.1)
