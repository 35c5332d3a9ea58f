"""The compiled kernels against their plain PyTorch reference, and their choice."""

import pytest
import torch

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.kernels.dynamics import Dynamics, Reset, uses_numba
from fnl.snn.kernels.lif import lif_backward, lif_forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("name", surrogates.SURROGATES)
def test_compiled_and_plain_kernels_agree(name, reset, reset_delay, dtype):
    generator = torch.Generator().manual_seed(3)
    current = torch.randn(4, 17, 9, generator=generator).to(dtype)
    grad = torch.randn(4, 17, 9, generator=generator).to(dtype)
    beta, threshold = torch.linspace(0, 1, 9).to(dtype), torch.linspace(0.1, 1.5, 9).to(dtype)
    compiled, plain = (
        Dynamics(reset, reset_delay, surrogates.surrogate(name), backend)
        for backend in ("numba", "torch")
    )
    spikes, membrane, recorded = lif_forward(
        current, beta, threshold, compiled, save=True, record=True
    )
    expected = lif_forward(current, beta, threshold, plain, save=True, record=True)
    assert torch.equal(spikes, expected[0])
    assert torch.equal(membrane, expected[1])
    assert torch.equal(recorded[0], expected[2][0])
    assert torch.allclose(recorded[1], expected[2][1])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    gradients = lif_backward(grad, membrane, beta, threshold, compiled)
    references = lif_backward(grad, membrane, beta, threshold, plain)
    for gradient, reference in zip(gradients, references, strict=True):
        scale = max(1.0, float(reference.abs().max()))
        assert torch.allclose(gradient / scale, reference / scale, rtol=tolerance, atol=tolerance)


def test_a_sigmoid_far_below_the_threshold_has_no_gradient_instead_of_nan():
    sigmoid = surrogates.sigmoid(25.0)
    far = torch.tensor([-50.0, -4.0, 4.0, 50.0])
    assert bool((sigmoid.derivative(far).abs() < 1e-30).all())
    membrane = (far + 1).reshape(1, 1, 4)
    for backend in ("numba", "torch"):
        dynamics = Dynamics(Reset.SUBTRACT, True, sigmoid, backend)
        ones = torch.ones(4)
        gradient, _, _ = lif_backward(torch.ones(1, 1, 4), membrane, ones, ones, dynamics)
        assert bool((gradient.abs() < 1e-30).all())


def test_the_backend_follows_the_tensor_unless_one_is_asked_for():
    single, half = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)
    assert uses_numba("auto", single)
    assert uses_numba("auto", single.double())
    assert not uses_numba("auto", half)
    assert not uses_numba("torch", single)
    assert not uses_numba("auto", torch.zeros(1, device="meta"))
    with pytest.raises(ConfigError, match="bfloat16 on cpu: choose auto or torch"):
        uses_numba("numba", half)
    with pytest.raises(ConfigError, match="backend 'cuda' is unknown: choose one of auto, numba"):
        uses_numba("cuda", single)
    with pytest.raises(ConfigError, match="backend 'triton' has no kernel for these neurons"):
        uses_numba("triton", single)


def test_an_unknown_surrogate_names_those_there_are():
    with pytest.raises(ConfigError, match="'relu' is unknown: choose one of straight_through"):
        surrogates.surrogate("relu")
    with pytest.raises(ConfigError, match=r"surrogate 'atan': .*slope"):
        surrogates.surrogate("atan", slope=3.0)
    assert surrogates.surrogate("fast_sigmoid", slope=3.0) == surrogates.fast_sigmoid(3.0)
