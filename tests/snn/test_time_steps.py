"""Networks in steps of another length: time constants, delays and steady states in milliseconds.

Parameters are of steps of 20 ms; clients have 10, 20 and 40.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fnl.clip_draws import DrawKeys
from fnl.config import parse_config
from fnl.errors import ConfigError
from fnl.snn.delays import RATE, AxonalDelays
from fnl.snn.network import build_network, initialise, set_draws
from fnl.snn.networks.conv import TimeFrequencyConv
from fnl.snn.networks.taps import Taps
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.spiking_layer import SpikingLayer
from fnl.snn.neurons.synaptic import Synaptic
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import gradients_of_batches

SERVER, HOPS = 20, (10, 20, 40)
NEVER = 1e9
"""A threshold that nothing reaches."""
LONG = 8000
"""Milliseconds after which nothing moves any more."""


def membranes(layer: SpikingLayer, current: float, hop: int, milliseconds: int = LONG):
    """Return u after each step of a constant current, [T], double precision."""
    layer.double().in_time(hop / SERVER)
    steps = torch.full((1, milliseconds // hop, 1), current, dtype=torch.float64)
    if hop == SERVER:
        rows, given = layer._constants(steps), steps
    else:
        timed, given = layer._timed(steps, layer._parameters_of(steps))
        rows = [row.detach().contiguous() for row in timed.rows.values()]
    _, membrane, _ = layer.scan.forward(given.detach(), rows, layer.dynamics, save=True)
    assert membrane is not None
    return membrane.reshape(milliseconds // hop, -1)[:, -1].numpy()


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_the_step_response_of_a_membrane_is_the_same_at_the_same_milliseconds(beta):
    """u after n steps is I (1 − βⁿ)/(1 − β); β^ρ in steps ρ times as long is β at the same time."""
    for hop in HOPS:
        found = membranes(LIF(beta, NEVER), 0.3, hop, 2000)
        n = np.arange(1, 2000 // hop + 1) * hop / SERVER
        expected = 0.3 * (1 - beta**n) / (1 - beta)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_a_leak_a_step_twice_as_long_brings_twice_as_much():
    for hop in HOPS:
        np.testing.assert_allclose(membranes(LIF(1.0, NEVER), 0.5, hop, 1000)[-1], 25, rtol=1e-5)


def test_a_second_order_neuron_has_its_steady_state_and_its_rise():
    """Steady: I/((1 − α)(1 − β)); on the way there, no further off than a step of the client."""
    layer = Synaptic(0.6, 0.9, NEVER)
    server = membranes(layer, 0.3, SERVER, 4000)
    assert server[-1] == pytest.approx(0.3 / (0.4 * 0.1), rel=1e-5)
    for hop in (10, 40):
        found = membranes(layer, 0.3, hop, 4000)
        assert found[-1] == pytest.approx(server[-1], rel=1e-5)
        at = np.arange(200, 4001, 200)  # ms
        off = np.abs(found[at // hop - 1] - server[at // SERVER - 1])
        assert (off <= np.abs(np.diff(server)).max() * max(hop / SERVER, 1)).all()


def test_an_adapting_neuron_has_the_steady_state_of_its_two_equations():
    """u = I − w and w (1 − β) = a u, so u = I/(1 + a/(1 − β)) in steps of any length."""
    for hop in HOPS:
        found = membranes(AdaptiveLIF(0.9, 0.98, 0.02, 0.5, NEVER), 0.4, hop, 40_000)
        assert found[-1] == pytest.approx(0.4 / (1 + 0.02 / 0.02), rel=1e-4)


def test_the_twin_without_spikes_keeps_its_gain_of_one():
    for hop in HOPS:
        layer = Rectified(0.9)
        layer.in_time(hop / SERVER)
        activations = layer(torch.full((1, LONG // hop, 1), 0.7))
        n = np.arange(1, LONG // hop + 1) * hop / SERVER
        np.testing.assert_allclose(activations.detach().flatten(), 0.7 * (1 - 0.9**n), rtol=1e-4)


@pytest.mark.parametrize("current", [0.15, 0.25, 0.4])
def test_neurons_spike_as_often_a_second(current):
    """What comes in, less what leaks, is θ times the spikes: r = (I − (1 − β) ū)/θ a step."""
    counts = {}
    for hop in HOPS:
        layer = LIF(0.9)
        layer.in_time(hop / SERVER)
        counts[hop] = float(layer(torch.full((1, 20_000 // hop, 1), current)).detach().sum()) / 20
    assert counts[10] == pytest.approx(counts[20], rel=0.12)
    assert counts[40] == pytest.approx(counts[20], rel=0.2)
    assert counts[20] > 0.05 * 50


def test_a_rate_of_spikes_has_the_same_effect_on_the_next_layer():
    """A spike every 80 ms, sent on as 1/ρ of a current: the mean of u is r W/(1 − β)."""
    for hop in HOPS:
        layer = LIF(0.95, NEVER).double()
        every = 80 // hop
        spikes = (torch.arange(LONG // hop) % every == 0).double() / (hop / SERVER)
        layer.in_time(hop / SERVER)
        timed, given = layer._timed(
            2.0 * spikes[None, :, None], layer._parameters_of(spikes[None, :, None])
        )
        rows = [row.detach().contiguous() for row in timed.rows.values()]
        _, membrane, _ = layer.scan.forward(given.detach(), rows, layer.dynamics, save=True)
        mean = membrane.reshape(-1)[-every * 10 :].mean()
        assert float(mean) == pytest.approx(2.0 * (SERVER / 80) / 0.05, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_read_out_is_the_time_mean_of_its_integrator(beta):
    for hop in HOPS:
        ratio = hop / SERVER
        readout = LeakyReadout(3, 2, beta).double()
        readout.in_time(ratio)
        signal = torch.rand(4, 1000 // hop, 3, dtype=torch.float64)
        current = readout.linear(signal).detach()
        gain = (1 - beta**ratio) / (1 - beta) if ratio != 1 else 1.0
        u, total = torch.zeros(4, 2, dtype=torch.float64), 0
        for t in range(signal.shape[1]):
            u = beta**ratio * u + gain * current[:, t]
            total = total + u
        found = readout(signal).detach()
        np.testing.assert_allclose(found, total / signal.shape[1], rtol=1e-6)


LAYERS = {
    "lif": lambda **kept: LIF(torch.rand(3) * 0.5 + 0.4, learn_beta=True, **kept),
    "threshold": lambda **kept: LIF(0.8, torch.rand(3) + 0.5, learn_threshold=True, **kept),
    "synaptic": lambda **kept: Synaptic(
        torch.rand(3) * 0.5 + 0.2, torch.rand(3) * 0.5 + 0.4, learn_alpha=True, learn_beta=True,
        **kept,
    ),
    "adlif": lambda **kept: AdaptiveLIF(
        torch.rand(3) * 0.5 + 0.3, torch.rand(3) * 0.1 + 0.8, torch.rand(3), torch.rand(3),
        learn_alpha=True, learn_beta=True, learn_a=True, learn_b=True, **kept,
    ),
    "rectified": lambda **kept: Rectified(torch.rand(3) * 0.5 + 0.4, learn_beta=True, **kept),
}  # fmt: skip


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("kept", ["clamp", "sigmoid"])
@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_gradients_of_each_clip_are_those_of_autograd_by_the_servers_parameters(make, kept, ratio):
    torch.manual_seed(0)
    layer = make(beta_map=kept)
    layer.in_time(ratio)
    current, grad = torch.randn(4, 12, 3) + 0.5, torch.randn(4, 12, 3)
    spikes, back = layer.forward_and_back(current.clone())
    of_current, of_clips = back(grad.clone())
    for clip in range(4):
        source = current[clip : clip + 1].clone().requires_grad_()
        trained = [p for p in layer.parameters() if p.requires_grad]
        out = layer(source)
        torch.testing.assert_close(out.detach(), spikes[clip : clip + 1])
        found = torch.autograd.grad(out, [source, *trained], grad[clip : clip + 1])
        torch.testing.assert_close(found[0], of_current[clip : clip + 1], rtol=1e-4, atol=1e-5)
        for parameter, one in zip(trained, found[1:], strict=True):
            torch.testing.assert_close(one, of_clips[parameter][clip], rtol=1e-4, atol=1e-4)


def test_a_trained_decay_moves_by_the_slope_of_its_power():
    """d(β^ρ)/dp = ρ β^ρ (1 − β) of β = σ(p): the parameter is the server's, and stays so."""
    layer = LIF(torch.tensor([0.7, 0.95]), learn_beta=True, beta_map="sigmoid")
    layer.in_time(2.0)
    before = layer.beta.detach().clone()
    timed, _ = layer._timed(torch.ones(1, 1, 2), layer._parameters_of(torch.ones(1, 1, 2)))
    (slope,) = torch.autograd.grad(timed.rows["beta"].sum(), layer.beta)
    beta = torch.sigmoid(before)
    torch.testing.assert_close(timed.rows["beta"], beta**2)
    torch.testing.assert_close(slope, 2 * beta**2 * (1 - beta))
    torch.testing.assert_close(timed.gain, (1 - beta**2) / (1 - beta))
    assert torch.equal(layer.beta, before)


@pytest.mark.parametrize("logit", [-200.0, -40.0, 40.0, 200.0])
def test_decays_that_round_to_nothing_or_all_have_gradients(logit):
    layer = LIF(torch.full((2,), 0.5), learn_beta=True, beta_map="sigmoid")
    with torch.no_grad():
        layer.beta.fill_(logit)
    layer.in_time(0.5)
    spikes, back = layer.forward_and_back(torch.randn(3, 5, 2))
    of_current, of_clips = back(torch.randn(3, 5, 2))
    assert torch.isfinite(spikes).all()
    assert torch.isfinite(of_current).all()
    assert torch.isfinite(of_clips[layer.beta]).all()


def test_a_delay_keeps_its_milliseconds():
    """Taps 2 steps of 20 ms apart read 40 ms ahead and back, of clips at any step."""
    for hop in (10, 20, 40):
        delays = AxonalDelays(1, Taps(3, 2)).eval()
        delays.in_time(hop / SERVER)
        clip = torch.zeros(1, 1000 // hop, 1)
        clip[0, 400 // hop] = 1
        heard = delays(clip)[0].nonzero()
        times = {int(tap): int(step) * hop for step, tap in heard}
        assert times == {0: 440, 1: 400, 2: 360}


def test_positions_between_steps_move_by_the_servers_gradient():
    torch.manual_seed(0)
    delays = AxonalDelays(2, Taps(3, 2)).train()
    with torch.no_grad():
        delays.position.add_(torch.rand(6) * 0.2 / RATE)
    delays.in_time(0.5)
    signal, grad = torch.randn(3, 20, 2), torch.randn(3, 20, 6)
    _, back = delays.forward_and_back(signal.clone())
    of_clips = back(grad)[1][delays.position]
    (summed,) = torch.autograd.grad(delays(signal), delays.position, grad)
    torch.testing.assert_close(of_clips.sum(0), summed, rtol=1e-4, atol=1e-3)


def test_taps_of_convolutions_keep_their_milliseconds():
    for kind in (TemporalConv, TimeFrequencyConv):
        taps, sizes = Taps(3, 2), ((1, 1) if kind is TemporalConv else ((1, 1), 1))
        layer = kind(*sizes, taps, bias=False)
        with torch.no_grad():
            layer.conv.weight.fill_(1.0)
        for hop in HOPS:
            layer.in_time(hop / SERVER)
            clip = torch.zeros(1, 1000 // hop, 1)
            clip[0, 400 // hop] = 1
            heard = layer(clip).detach()[0, :, 0].nonzero().flatten() * hop
            assert heard.tolist() == [360, 400, 440]
        with pytest.raises(ConfigError, match="fall between"):
            layer.in_time(100 / SERVER)


NETWORKS = {
    "feedforward": {},
    "no normalisation": {"model.normalisation": "none"},
    "synaptic": {"model.neuron": "synaptic", "model.learn-beta": True},
    "adlif": {"model.neuron": "adlif", "model.learn-beta": True},
    "dropout": {"model.dropout": 0.3, "model.learn-beta": True},
    "delays": {"model.network": "delays", "model.kernel-size": 3, "model.dilations": "2,2"},
    "conv": {"model.network": "conv", "model.kernel-size": 3, "model.dilations": "2,2"},
    "taps": {"model.network": "temporal-conv", "model.kernel-size": 3, "model.dilations": "2,2"},
    "relu": {"model.activation": "relu", "model.learn-beta": True},
    "rate": {"model.encoding": "rate", "model.readout": "mean"},
}  # fmt: skip


def network_of(keys):
    config = parse_config({"model.hidden": "6,5", "model.surrogate-slope": 1.0, **keys})
    network = build_network(config.model, 8, 3, seed=0)
    initialise(network, 0)
    return network


@pytest.mark.parametrize("keys", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("hop", [10, 40])
def test_clipped_training_sees_the_gradients_of_a_clip_by_itself(keys, hop):
    """Of a clip among others and alone: nothing about time mixes clips (DP-SGD's condition)."""
    network, keep = network_of(keys), torch.manual_seed(1)
    network.in_time(hop / SERVER)
    clips, labels = torch.randn(3, 1000 // hop, 8, generator=keep), torch.tensor([0, 1, 2])
    keys_of = DrawKeys.seeded(5)

    def gradients(rows):
        return next(
            torch.cat(batch, dim=1)
            for batch in gradients_of_batches(
                network, clips[rows], labels[rows], size=len(rows), keys=keys_of,
                loss=TrainingLoss(),
            )
        )  # fmt: skip

    together = gradients([0, 1, 2])
    assert together.abs().sum() > 0
    for row in range(3):
        torch.testing.assert_close(gradients([row])[0], together[row], rtol=1e-3, atol=1e-4)
    # and they are those of plain autograd
    network.train()
    set_draws(network, keys_of.of(clips).batch([0, 1, 2], step=0))
    loss = torch.nn.functional.cross_entropy(network(clips), labels, reduction="sum")
    trained = [p for p in network.parameters() if p.requires_grad]
    plain = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, trained)])
    torch.testing.assert_close(together.sum(0), plain, rtol=1e-3, atol=1e-4)


def test_steps_of_the_server_are_left_alone_to_the_bit():
    network, clips = network_of({"model.learn-beta": True}), torch.randn(2, 50, 8)
    before = network(clips)
    network.in_time(1.0)
    assert torch.equal(network(clips), before)


def test_neurons_that_take_a_step_for_a_synapse_are_refused():
    with pytest.raises(ConfigError, match="RecurrentLIF neurons are of one time step"):
        RecurrentLIF(3, 0.9).in_time(2.0)
