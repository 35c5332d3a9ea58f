"""The compiled kernels against their plain PyTorch reference, and their choice."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fnl.errors import ConfigError
from fnl.snn import surrogates
from fnl.snn.kernels.adaptive import ADAPTIVE_SCAN
from fnl.snn.kernels.dynamics import RESETS, Dynamics, Reset, uses_numba
from fnl.snn.kernels.lif import LIF_SCAN
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.kernels.scan import Scan
from fnl.snn.kernels.synaptic import SYNAPTIC_SCAN

SCANS = {
    "lif": LIF_SCAN,
    "recurrent": RECURRENT_SCAN,
    "synaptic": SYNAPTIC_SCAN,
    "adaptive": ADAPTIVE_SCAN,
}


def tensors_of(kind: Scan, features: int, dtype: torch.dtype) -> list[Tensor]:
    """Return rows over all of [0, 1], thresholds above 0, and exact synapses where there are."""
    places = torch.linspace(0, 1, features)
    turned = [places.roll(shift) for shift in range(len(kind.rows) - 1)]
    tensors = [*turned, torch.linspace(0.1, 1.5, features)]
    if kind.recurrent:  # multiples of 1/64: sums come out the same in any order
        generator = torch.Generator().manual_seed(2)
        weight = torch.randint(-16, 17, (features, features), generator=generator) / 64
        tensors += [weight, torch.arange(features) / 64]
    return [tensor.to(dtype) for tensor in tensors]


def assert_close_in_scale(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    scale = max(1.0, float(reference.abs().max()))
    assert torch.allclose(ours / scale, reference / scale, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("name", surrogates.SURROGATES)
@pytest.mark.parametrize("kind", SCANS)
def test_compiled_and_plain_kernels_agree(kind, name, reset, reset_delay, dtype):
    scan = SCANS[kind]
    generator = torch.Generator().manual_seed(3)
    current = torch.randn(4, 17, 9, generator=generator).to(dtype)
    current = 8 * current if kind == "adaptive" else current
    grad = torch.randn(4, 17, 9, generator=generator).to(dtype)
    tensors = tensors_of(scan, 9, dtype)
    compiled, plain = (
        Dynamics(reset, reset_delay, surrogates.surrogate(name), backend)
        for backend in ("numba", "torch")
    )
    spikes, membrane, recorded = scan.forward(current, tensors, compiled, save=True, record=True)
    expected = scan.forward(current, tensors, plain, save=True, record=True)
    assert spikes.any()
    assert torch.equal(spikes, expected[0])
    assert torch.equal(membrane, expected[1])
    assert torch.equal(recorded[0], expected[2][0])
    assert torch.allclose(recorded[1], expected[2][1])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    results = [scan.backward(grad, membrane, current, tensors, way) for way in (compiled, plain)]
    (grad_current, grads), (other_current, others) = results
    assert_close_in_scale(grad_current, other_current, tolerance)
    assert len(grads) == len(others) == len(scan.rows)
    for gradient, reference in zip(grads, others, strict=True):
        assert_close_in_scale(gradient, reference, tolerance)
    unlearned, _ = scan.backward(grad, membrane, None, tensors, compiled, learns=False)
    assert torch.equal(unlearned, grad_current)


@pytest.mark.parametrize("steps", range(1, 10))
@pytest.mark.parametrize("reset_delay", [True, False])
def test_statistics_are_those_of_a_membrane_stepped_by_hand(reset_delay, steps):
    generator = torch.Generator().manual_seed(steps)
    current = torch.randn(5, steps, 3, generator=generator)
    current[torch.rand(current.shape, generator=generator) < 0.5] = 0  # with β = 1 nothing changes
    beta, threshold = torch.tensor([1.0, 0.0, 0.7]), torch.ones(3)
    dynamics = Dynamics(Reset.NONE, reset_delay, surrogates.atan(), "numba")
    spikes, _, recorded = LIF_SCAN.forward(current, (beta, threshold), dynamics, record=True)
    counts, (total, square, lag, first, last, changes) = recorded
    u = np.zeros((5, steps + 1, 3), dtype=np.float32)
    for t in range(steps):
        u[:, t + 1] = beta.numpy() * u[:, t] + current[:, t].numpy()
    after, before = u[:, 1:].astype(np.float64), u[:, :-1].astype(np.float64)
    np.testing.assert_array_equal(counts.numpy(), (after > 1).sum(1))
    np.testing.assert_array_equal(spikes.numpy(), after > 1)
    np.testing.assert_array_equal(changes, 5 + (np.diff(after, axis=1) != 0).sum((0, 1)))
    np.testing.assert_allclose(total, after.sum((0, 1)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(square, (after**2).sum((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(lag, (after * before).sum((0, 1)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(first, after[:, 0].sum(0), rtol=1e-12)
    np.testing.assert_allclose(last, after[:, -1].sum(0), rtol=1e-12)


def test_a_sigmoid_far_below_the_threshold_has_no_gradient_instead_of_nan():
    sigmoid = surrogates.sigmoid(25.0)
    far = torch.tensor([-50.0, -4.0, 4.0, 50.0])
    assert bool((sigmoid.derivative(far).abs() < 1e-30).all())
    membrane = (far + 1).reshape(1, 1, 4)
    for backend in ("numba", "torch"):
        dynamics = Dynamics(Reset.SUBTRACT, True, sigmoid, backend)
        ones = torch.ones(4)
        gradient, _ = LIF_SCAN.backward(torch.ones(1, 1, 4), membrane, None, (ones, ones), dynamics)
        assert bool((gradient.abs() < 1e-30).all())


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("delay", [True, False])
def test_a_kernel_that_overwrites_has_the_same_bits(reset, delay):
    dynamics = Dynamics(RESETS[reset], delay, surrogates.atan())
    rows = torch.full((6,), 0.8), torch.full((6,), 0.3)
    generator = torch.Generator().manual_seed(7)
    current, grad = (torch.randn(7, 15, 6, generator=generator) for _ in range(2))
    spikes, membrane, _ = LIF_SCAN.forward(current, rows, dynamics, save=True)
    room = current.clone()
    again, kept, _ = LIF_SCAN.forward(room, rows, dynamics, save=True, overwrite=True)
    assert membrane is not None
    assert kept is room
    assert torch.equal(spikes, again)
    assert torch.equal(membrane, kept)
    given = grad.clone()
    expected, grads = LIF_SCAN.backward(grad, membrane, None, rows, dynamics)
    got, others = LIF_SCAN.backward(given, kept, None, rows, dynamics, overwrite=True)
    assert got is given
    for a, b in zip([expected, *grads], [got, *others], strict=True):
        assert torch.equal(a, b)


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
