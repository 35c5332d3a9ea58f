"""Triton kernels against the PyTorch reference, on CPU tensors in Triton's interpreter.

`test_kernels_triton.py` runs these in a process of their own, because `TRITON_INTERPRET=1` has to
be set before anything imports Triton.
"""

import pytest
import torch

from fnl.snn import surrogates
from fnl.snn.kernels.dynamics import RESETS, Dynamics, Reset
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.kernels.scan import MOST_RECURRENT
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF
from fnl.snn.neurons.synaptic import Synaptic

LAYERS = [LIF, Synaptic, AdaptiveLIF]
EACH = pytest.mark.parametrize("layer", LAYERS)

SHAPES = [(2, 7, 5), (1, 2, 130), (1, 1, 1), (0, 3, 4)]
"""B, T, F: an odd number of neurons, more than one block of them, one step, no clips."""


def _draw(scan, shape, dtype, seed):
    """Return I, dL/dS and the rows."""
    generator = torch.Generator().manual_seed(seed)
    features = shape[2]
    current, grad = (torch.randn(*shape, generator=generator).to(dtype) for _ in range(2))
    rows = [torch.rand(features, generator=generator) for _ in scan.rows[:-1]]
    threshold = 0.1 + 1.4 * torch.rand(features, generator=generator)
    return current + 0.3, grad, [row.to(dtype) for row in (*rows, threshold)]


def _compare(scan, shape, dtype, modes, *, learns=True, seed=5):
    current, grad, rows = _draw(scan, shape, dtype, seed)
    triton, plain = (Dynamics(*modes, backend) for backend in ("triton", "torch"))
    spikes, membrane, recorded = scan.forward(current, rows, triton, save=True, record=True)
    expected = scan.forward(current, rows, plain, save=True, record=True)
    assert torch.equal(spikes, expected[0])
    assert torch.equal(membrane, expected[1])
    assert torch.equal(recorded[0], expected[2][0])
    assert torch.allclose(recorded[1], expected[2][1], rtol=1e-12)
    alone = scan.forward(current, rows, triton)
    assert torch.equal(alone[0], spikes)
    assert alone[1:] == (None, None)
    kept = current if learns else None
    one, rows_of_one = scan.backward(grad, membrane, kept, rows, triton, learns=learns)
    other, rows_of_other = scan.backward(grad, membrane, kept, rows, plain, learns=learns)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(one, other, rtol=tolerance, atol=tolerance)
    assert len(rows_of_one) == len(rows_of_other) == len(scan.rows)
    for gradient, reference in zip(rows_of_one, rows_of_other, strict=True):
        expectation = reference if learns else torch.zeros_like(reference)
        assert torch.allclose(gradient, expectation, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", list(Reset))
@EACH
def test_spikes_are_the_references_and_gradients_close(layer, reset, reset_delay):
    modes = reset, reset_delay, surrogates.fast_sigmoid(7.3)
    for seed, shape in enumerate(SHAPES):
        _compare(layer.scan, shape, torch.float32, modes, learns=seed % 2 == 0, seed=seed)
    _compare(layer.scan, (1, 5, 3), torch.float64, modes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", surrogates.SURROGATES)
def test_every_surrogate_has_the_references_gradients(name, dtype):
    _compare(LIF.scan, (1, 5, 9), dtype, (Reset.SUBTRACT, False, surrogates.surrogate(name)))


def test_a_parameter_of_a_surrogate_keeps_its_double_precision():
    for surrogate in (surrogates.triangular(0.1), surrogates.sparse_fast_sigmoid(0.1, 0.3)):
        _compare(LIF.scan, (2, 6, 5), torch.float64, (Reset.ZERO, True, surrogate))


@pytest.mark.parametrize("reset", RESETS)
@EACH
def test_a_layer_trains_through_triton_as_through_numba(layer, reset):
    learned = [f"learn_{name}" for name in layer.scan.rows]
    values = dict.fromkeys(layer.scan.rows, 0.6)
    results = []
    for backend in ("triton", "numba"):
        neurons = layer(**values, reset=reset, backend=backend, **dict.fromkeys(learned, True))
        generator = torch.Generator().manual_seed(1)
        current = (2 * torch.randn(2, 6, 5, generator=generator)).requires_grad_()
        spikes = neurons(current)
        (spikes * torch.randn(2, 6, 5, generator=generator)).sum().backward()
        trained = [p.grad for p in neurons.parameters() if p.requires_grad]
        results.append((spikes, current.grad, *trained))
        assert len(trained) == len(learned)
    assert torch.equal(results[0][0], results[1][0])
    for triton, numba in zip(*results, strict=True):
        assert torch.allclose(triton, numba, rtol=1e-5, atol=1e-5)


def _clients(scan, clients, clips, features, steps=5):
    """Return I, dL/dS and the tensors of several clients."""
    generator = torch.Generator().manual_seed(clients * clips)
    current, grad = (
        torch.randn(clients * clips, steps, features, generator=generator) for _ in range(2)
    )
    tensors = [torch.rand(clients, features, generator=generator) for _ in scan.rows]
    if scan.recurrent:
        synapses = torch.randn(clients, features, features, generator=generator)
        tensors += [synapses / features**0.5, torch.randn(clients, features, generator=generator)]
    return current + 0.3, grad, tensors


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize(
    ("scan", "shape"),
    [
        (LIF.scan, (3, 2, 5)),
        (AdaptiveLIF.scan, (3, 2, 5)),
        (RECURRENT_SCAN, (3, 2, 5)),
        (RECURRENT_SCAN, (2, 17, 40)),
        (RECURRENT_SCAN, (1, 1, 1)),
    ],
)
def test_several_clients_have_rows_of_their_own(scan, shape, reset, reset_delay):
    current, grad, tensors = _clients(scan, *shape)
    modes = reset, reset_delay, surrogates.fast_sigmoid(7.3)
    triton, plain = (Dynamics(*modes, backend) for backend in ("triton", "torch"))
    spikes, membrane, recorded = scan.forward(current, tensors, triton, save=True, record=True)
    expected = scan.forward(current, tensors, plain, save=True, record=True)
    assert torch.equal(spikes, expected[0])
    assert torch.allclose(membrane, expected[1], rtol=1e-5, atol=1e-5)
    assert torch.equal(recorded[0], expected[2][0])
    assert torch.allclose(recorded[1], expected[2][1], rtol=1e-4, atol=1e-4)
    one = scan.backward(grad, membrane, current, tensors, triton)
    other = scan.backward(grad, membrane, current, tensors, plain)
    assert torch.allclose(one[0], other[0], rtol=1e-4, atol=1e-4)
    for gradient, reference in zip(one[1], other[1], strict=True):
        assert torch.allclose(gradient, reference, rtol=1e-4, atol=1e-4)


def test_one_client_is_rows_without_an_axis():
    current, _, tensors = _clients(RECURRENT_SCAN, 1, 3, 6)
    dynamics = Dynamics(Reset.SUBTRACT, True, surrogates.atan(), "triton")
    with_axis = RECURRENT_SCAN.forward(current, tensors, dynamics)[0]
    assert torch.equal(
        with_axis, RECURRENT_SCAN.forward(current, [t[0] for t in tensors], dynamics)[0]
    )


@pytest.mark.parametrize(("dtype", "features"), [(torch.float64, 3), (torch.float32, 600)])
def test_what_the_recurrent_kernels_cannot_hold_is_left_to_pytorch(dtype, features):
    assert features in (3, MOST_RECURRENT + 88)
    dynamics = Dynamics(Reset.SUBTRACT, True, surrogates.atan(), "triton")
    assert not RECURRENT_SCAN._uses_triton(dynamics, torch.zeros(1, 1, features, dtype=dtype))
