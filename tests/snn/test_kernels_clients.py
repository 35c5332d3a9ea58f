"""Scans of several clients, each with rows of its own: what each client's own scan gives."""

import pytest
import torch

from fnl.snn import surrogates
from fnl.snn.kernels.adaptive import ADAPTIVE_SCAN
from fnl.snn.kernels.dynamics import Dynamics, Reset
from fnl.snn.kernels.lif import LIF_SCAN
from fnl.snn.kernels.recurrent import RECURRENT_SCAN
from fnl.snn.kernels.synaptic import SYNAPTIC_SCAN

CLIENTS, CLIPS, STEPS, FEATURES = 3, 2, 6, 5
SCANS = [LIF_SCAN, SYNAPTIC_SCAN, ADAPTIVE_SCAN, RECURRENT_SCAN]


def _drawn(scan, clients=CLIENTS, clips=CLIPS):
    generator = torch.Generator().manual_seed(4)
    current = torch.randn(clients * clips, STEPS, FEATURES, generator=generator) + 0.4
    grad = torch.randn(current.shape, generator=generator)
    rows = [torch.rand(clients, FEATURES, generator=generator) for _ in scan.rows]
    if scan.recurrent:
        rows += [
            torch.randn(clients, FEATURES, FEATURES, generator=generator),
            torch.randn(clients, FEATURES, generator=generator),
        ]
    return current, grad, rows


@pytest.mark.parametrize("surrogate", [surrogates.fast_sigmoid(7.0), surrogates.sigmoid(5.0)])
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("reset", "delay"), [(Reset.SUBTRACT, True), (Reset.ZERO, False)])
@pytest.mark.parametrize("scan", SCANS)
def test_each_client_has_what_it_has_alone(scan, reset, delay, backend, surrogate):
    dynamics = Dynamics(reset, delay, surrogate, backend)
    current, grad, tensors = _drawn(scan)
    spikes, membrane, _ = scan.forward(current, tensors, dynamics, save=True)
    assert 0 < spikes.mean() < 1
    grad_current, grads = scan.backward(grad, membrane, current, tensors, dynamics)
    for client in range(CLIENTS):
        rows = slice(client * CLIPS, (client + 1) * CLIPS)
        own = [tensor[client] for tensor in tensors]
        alone = scan.forward(current[rows], own, dynamics, save=True)
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if scan.recurrent else {"rtol": 0, "atol": 0}
        assert torch.equal(spikes[rows], alone[0])
        assert torch.allclose(membrane[rows], alone[1], **tolerance)
        back, of_rows = scan.backward(grad[rows], membrane[rows], current[rows], own, dynamics)
        assert torch.allclose(grad_current[rows], back, rtol=1e-5, atol=1e-6)
        for one, expected in zip(grads, of_rows, strict=True):
            assert torch.allclose(one[rows], expected, rtol=1e-5, atol=1e-6)
        before = scan.spikes_before(membrane, tensors)[rows]
        assert torch.equal(before, scan.spikes_before(membrane[rows], own))


@pytest.mark.parametrize("scan", SCANS)
def test_of_no_clips_there_is_nothing(scan):
    dynamics = Dynamics(Reset.SUBTRACT, True, surrogates.atan())
    current, grad, tensors = _drawn(scan, clips=0)
    spikes, membrane, _ = scan.forward(current, tensors, dynamics, save=True)
    grad_current, grads = scan.backward(grad, membrane, current, tensors, dynamics)
    assert spikes.shape == grad_current.shape == (0, STEPS, FEATURES)
    assert {tuple(one.shape) for one in grads} == {(0, FEATURES)}
