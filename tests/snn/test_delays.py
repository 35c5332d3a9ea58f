"""Axonal delays: what they read, against slices and finite differences, and where they may go."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleModule
from torch import Tensor

from fnl.config import ModelGroup
from fnl.metrics.fan_out import fan_out
from fnl.snn import delays
from fnl.snn.delays import RATE, AxonalDelays, DelayedLinear
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.snn.networks.taps import Taps
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.grad_samplers import register_grad_samplers

CLIPS, STEPS, FEATURES = 3, 14, 4
CAUSAL = pytest.mark.parametrize("causal", [False, True])


@pytest.fixture
def signal() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(CLIPS, STEPS, FEATURES, generator=generator, dtype=torch.float64)


def scattered(*, causal: bool, taps: int = 3, dilation: int = 3) -> AxonalDelays:
    """Return delays that lie between steps, all over their reach."""
    layer = AxonalDelays(FEATURES, Taps(taps, dilation, causal)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        layer.position.uniform_(layer.first / RATE, layer.last / RATE, generator=generator)
    return layer


def step_of(signal: Tensor, step: int, feature: int) -> Tensor:
    inside = 0 <= step < STEPS
    return signal[:, step, feature] if inside else torch.zeros(CLIPS, dtype=signal.dtype)


@CAUSAL
@pytest.mark.parametrize("dilation", [1, 3])
def test_at_the_start_the_layer_is_the_dilated_convolution(signal, causal, dilation):
    layer = DelayedLinear(FEATURES, 5, Taps(3, dilation, causal), bias=False).double()
    conv = TemporalConv(FEATURES, 5, Taps(3, dilation, causal), bias=False).double()
    with torch.no_grad():  # [F_out, S·F], tap by tap
        layer.linear.weight.copy_(conv.conv.weight.transpose(1, 2).flatten(1))
    for training in (True, False):
        torch.testing.assert_close(
            layer.train(training)(signal), conv(signal), rtol=1e-6, atol=1e-6
        )


@CAUSAL
@pytest.mark.parametrize("training", [True, False])
def test_a_tap_reads_its_step_or_between_two(signal, causal, training):
    layer = scattered(causal=causal).train(training)
    taps = layer(signal).unflatten(2, (3, FEATURES))
    positions = (layer.position.detach() * RATE).view(3, FEATURES)
    for tap in range(3):
        for feature in range(FEATURES):
            place = float(positions[tap, feature])
            place = place if training else round(place)
            whole = int(place // 1)
            for step in range(STEPS):
                expected = (1 - (place - whole)) * step_of(signal, step + whole, feature)
                expected += (place - whole) * step_of(signal, step + whole + 1, feature)
                torch.testing.assert_close(taps[:, step, tap, feature], expected)


@CAUSAL
def test_gradients_are_those_of_finite_differences(signal, causal):
    layer = scattered(causal=causal)

    def taps(signal: Tensor, position: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"position": position}, (signal,))

    position = layer.position.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(taps, (signal.requires_grad_(), position), atol=1e-4)


@CAUSAL
@pytest.mark.parametrize("training", [True, False])
def test_compiled_and_plain_are_the_same(signal, causal, training, monkeypatch):
    results = []
    for compiled in (True, False):
        monkeypatch.setattr(delays, "uses_numba", lambda *_, compiled=compiled: compiled)
        layer, x = scattered(causal=causal).train(training), signal.clone().requires_grad_()
        taps = layer(x)
        (taps**2).sum().backward()
        results.append((taps.detach(), x.grad, layer.position.grad))
    for compiled, plain in zip(*results, strict=True):
        assert (compiled is None) == (plain is None)
        if compiled is not None:
            torch.testing.assert_close(compiled, plain)


@CAUSAL
def test_positions_that_left_their_reach_are_put_back(signal, causal):
    layer = scattered(causal=causal)
    with torch.no_grad():
        layer.position[:] = 100.0
        layer.position[0] = -100.0
    layer.eval()
    outside = layer(signal)  # an evaluation changes no parameter, and reads the nearest step
    assert layer.position.abs().min() == 100
    layer.train()
    torch.testing.assert_close(layer(signal), outside)
    places = layer.position.detach() * RATE
    assert (round(float(places.min())), round(float(places.max()))) == (layer.first, layer.last)


@CAUSAL
@pytest.mark.parametrize("compiled", [True, False])
def test_a_position_that_is_no_number_spoils_its_own_tap_and_reads_no_foreign_memory(
    signal, causal, compiled, monkeypatch
):
    monkeypatch.setattr(delays, "uses_numba", lambda *_: compiled)
    layer = scattered(causal=causal)
    expected = layer(signal).detach()
    with torch.no_grad():
        layer.position[1] = float("nan")
    for _ in range(2):  # also after a training pass has put positions back
        taps = layer(signal)
        taps.sum().backward()
        assert taps[..., 1].isnan().all()
        others = [tap for tap in range(taps.shape[2]) if tap != 1]
        assert torch.equal(taps[..., others], expected[..., others])


@CAUSAL
def test_synapses_are_counted_where_the_delays_lead(causal):
    layer = DelayedLinear(FEATURES, 5, Taps(3, 3, causal)).eval()
    with torch.no_grad():
        layer.delays.position.copy_(scattered(causal=causal).position)
        layer.linear.weight[:, ::2] = 0
    expected = torch.zeros(STEPS, FEATURES)
    living = (layer.linear.weight != 0).sum(0).view(3, FEATURES)
    positions = (layer.delays.position * RATE).round().long().view(3, FEATURES)
    for tap in range(3):
        for feature in range(FEATURES):
            for step in range(STEPS):
                source = step + int(positions[tap, feature])
                if 0 <= source < STEPS:
                    expected[source, feature] += living[tap, feature]
    assert fan_out(layer, STEPS, FEATURES).tolist() == expected.tolist()


def test_training_finds_a_delay():
    """Both taps, eight steps apart, find a delay of five by gradient alone."""
    torch.manual_seed(0)
    layer = AxonalDelays(1, Taps(2, 8, causal=True))
    signal = torch.rand(16, 40, 1).cumsum(1)  # smooth, so that there is a way there
    target = torch.cat([torch.zeros(16, 5, 1), signal[:, :-5]], 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)
    for _ in range(300):
        loss = (layer(signal) - target)[:, 8:-1].square().mean()  # away from the ends
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (layer.eval().positions() == -5).all()


def build() -> SpikingNetwork:
    model = ModelGroup(network="delays", hidden="16,8", kernel_size=3, readout="mean")
    network = build_network(model, FEATURES, CLIPS)
    initialise(network, 0)
    return network


def test_a_network_begins_on_the_grid():
    layers = [layer for layer in build().linear if isinstance(layer, DelayedLinear)]
    places = [layer.delays.positions()[:, 0].tolist() for layer in layers]
    assert places == [[-1, 0, 1], [-2, 0, 2]]


def in_between() -> SpikingNetwork:
    """Return a network of doubles whose delays have left the grid."""
    network = build().double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in network.linear:
            position = layer.get_parameter("delays.position")
            position.add_(torch.rand(position.shape, generator=generator) / RATE)
    return network


def one_backward_a_clip(network: SpikingNetwork, clips: Tensor) -> list[Tensor]:
    trained = [p for p in network.parameters() if p.requires_grad]
    labels = torch.arange(CLIPS)
    rows = []
    for b in range(CLIPS):
        loss = F.cross_entropy(network(clips[b : b + 1]), labels[b : b + 1])
        rows.append(torch.autograd.grad(loss, trained))
    return [torch.stack(gradients) for gradients in zip(*rows, strict=True)]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # inputs need no gradient
def test_opacus_finds_the_gradients_of_each_clip_alone(signal):
    network = in_between()
    expected = one_backward_a_clip(network, 3 * signal)
    copied = copy.deepcopy(network)
    register_grad_samplers(copied)
    private = GradSampleModule(copied, loss_reduction="sum", strict=False)
    F.cross_entropy(private(3 * signal), torch.arange(CLIPS), reduction="sum").backward()
    together = [p.grad_sample for p in private.parameters() if p.requires_grad]
    for ours, reference in zip(together, expected, strict=True):
        assert reference.abs().max() > 0
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


def test_ghost_clipping_clips_the_delays_too(signal):
    network, clip_norm = in_between(), 0.5
    written_out = one_backward_a_clip(network, 3 * signal)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in written_out]).norm(dim=0)
    factors = (clip_norm / norms).clamp(max=1)
    assert factors.min() < 1
    private = GhostClippingModule(copy.deepcopy(network), loss_reduction="sum", strict=False)
    private.train()
    private.descent()(3 * signal, partial(TrainingLoss(), labels=torch.arange(CLIPS)))
    trained = [p for p in private.parameters() if p.requires_grad]
    private.clip(trained, clip_norm)
    for parameter, gradients in zip(trained, written_out, strict=True):
        expected = torch.einsum("b,b...->...", factors, gradients)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-11)
