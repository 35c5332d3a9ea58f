"""Every built-in network: clips apart, gradients per clip exact, nothing looks ahead if causal."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from rounding import assert_within_ulps, make_products_exact, on_grid
from torch import Tensor

from fnl.clip_draws import BatchDraws, DrawKeys
from fnl.config import ModelGroup
from fnl.snn.dropout import Dropout
from fnl.snn.network import SpikingNetwork, build_network, initialise, set_draws
from fnl.snn.networks.gathering import Tap
from fnl.snn.neurons.lif import LIF
from fnl.training.loss import TrainingLoss
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.weights import get_weights, weights_hash

CLIPS, STEPS, FEATURES, CLASSES = 5, 20, 12, 4

MODELS: dict[str, dict[str, object]] = {
    "feedforward": {"hidden": "16,8"},
    "learned": {"hidden": "16,8", "learn_beta": True, "learn_threshold": True, "readout": "mean"},
    "standardised": {"hidden": "16,8", "standardise": True},
    "all layers": {"hidden": "16,8", "readout_layers": "all", "standardise": True},
    "all layers, convolutions": {
        "network": "temporal-conv", "hidden": "16,16,8", "kernel_size": 3, "readout_layers": "all",
        "readout": "mean",
    },
    "recurrent": {"network": "recurrent", "hidden": "16,8", "learn_beta": True},
    "temporal-conv": {"network": "temporal-conv", "hidden": "16,16,8", "kernel_size": 3},
    "temporal-conv, no norm": {
        "network": "temporal-conv", "hidden": "16,8", "normalisation": "none", "threshold": 0.3,
    },
    "temporal-conv, causal": {
        "network": "temporal-conv", "hidden": "16,8", "kernel_size": 4, "padding": "causal",
    },
    "temporal-conv, group": {
        "network": "temporal-conv", "hidden": "16,8", "normalisation": "group", "groups": 4,
        "learn_beta": True,
    },
    "temporal-conv, recurrent": {
        "network": "temporal-conv", "hidden": "16,8", "neuron": "recurrent-lif",
    },
    "conv": {"network": "conv", "hidden": "4,6", "kernel_size": 3, "learn_beta": True},
    "conv, causal": {
        "network": "conv", "hidden": "4,6", "kernel_size": 4, "padding": "causal",
        "normalisation": "none", "threshold": 0.3,
    },
    "delays": {"network": "delays", "hidden": "16,8", "kernel_size": 3, "learn_beta": True},
    "delays, causal": {
        "network": "delays", "hidden": "16,8", "kernel_size": 4, "padding": "causal",
        "normalisation": "none", "threshold": 0.3,
    },
    "synaptic": {"neuron": "synaptic", "hidden": "16,8", "learn_beta": True},
    "synaptic, fixed": {"neuron": "synaptic", "hidden": "16,8", "reset": "zero"},
    "adlif": {"neuron": "adlif", "hidden": "32,16", "learn_beta": True, "threshold": 0.1},
    "adlif, fixed": {"neuron": "adlif", "hidden": "32,16", "threshold": 0.1},
    "delta": {"hidden": "16,8", "encoding": "delta"},
    "latency": {"hidden": "16,8", "encoding": "latency"},
}  # fmt: skip

EACH = pytest.mark.parametrize("name", MODELS)


def build(name: str, **settings: object) -> SpikingNetwork:
    network = build_network(
        ModelGroup.model_validate({**MODELS[name], **settings}), FEATURES, CLASSES
    )
    initialise(network, 0)
    return network


@pytest.fixture
def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return on_grid(2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))


@EACH
def test_every_layer_spikes_and_counts_are_those_of_the_signals(name, inputs):
    network = build(name)
    trace = network.trace(inputs)
    assert len(trace.signals) == len(trace.counts) + 1 == len(network.neuron) + 1
    for spikes, count in zip(trace.signals[1:], trace.counts, strict=True):
        assert set(spikes.unique().tolist()) == {0.0, 1.0}
        own = spikes[..., -count.shape[1] :]  # what the read-out is given may be all layers'
        assert torch.equal(own.sum(1), count.to(spikes))
    assert torch.equal(trace.logits, network(inputs))
    assert trace.logits.shape == (CLIPS, CLASSES)


@EACH
def test_clips_never_meet(name, inputs):
    network = build(name).eval()  # delays are then whole steps
    make_products_exact(network)  # batches of another size may add in another order
    together = network.trace(inputs)
    for clip in range(CLIPS):
        alone = network.trace(inputs[clip : clip + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[clip], rtol=1e-5, atol=1e-5)
        for a, b in zip(alone.counts, together.counts, strict=True):
            assert torch.equal(a[0], b[clip])


@EACH
def test_per_clip_gradients_are_those_of_each_clip_alone(name, inputs):
    network, labels = build(name, dropout=0.0).double(), torch.arange(CLIPS) % CLASSES
    clips = inputs.double()
    private = PerClipGradientModule(copy.deepcopy(network), loss_reduction="sum", strict=False)
    private.train()
    private.descent()(clips, partial(TrainingLoss(), labels=labels))
    together = [p.grad_sample for p in private.parameters() if p.requires_grad]
    for clip in range(CLIPS):
        network.zero_grad()
        F.cross_entropy(network(clips[clip : clip + 1]), labels[clip : clip + 1]).backward()
        alone = [p.grad for p in network.parameters() if p.requires_grad]
        for ours, expected in zip(together, alone, strict=True):
            assert expected is not None
            torch.testing.assert_close(ours[clip], expected, rtol=1e-9, atol=1e-12)
    assert all(gradient.abs().max() > 0 for gradient in together)


@pytest.mark.parametrize("trained", ["", "readout.linear", "norm.1"])
def test_nothing_of_the_clips_stays_in_a_read_out_of_all_layers(trained, inputs):
    network = build("all layers, convolutions")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    private = PerClipGradientModule(network, loss_reduction="sum", strict=False)
    private.train()
    loss = partial(TrainingLoss(), labels=torch.arange(CLIPS) % CLASSES)
    private.descent()(inputs, loss)
    taps = [tap for tap in network.tap if isinstance(tap, Tap)]
    assert taps
    assert all(tap.kept is None and tap.share is None for tap in taps)
    taps[0](inputs.clone().requires_grad_() * 2)  # a pass that ends halfway
    copied = copy.deepcopy(network).tap[0]
    assert isinstance(copied, Tap)
    assert copied.kept is None


@pytest.mark.parametrize(
    "name", ["temporal-conv, causal", "conv, causal", "recurrent", "delta", "delays, causal"]
)
@pytest.mark.parametrize("cut", [1, 7, 12])
def test_causal_networks_do_not_look_ahead(name, cut, inputs):
    network = build(name)
    changed = inputs.clone()
    changed[:, cut:] = 5 * changed[:, cut:].flip(0, 1)
    for one, other in zip(
        network.trace(inputs).signals, network.trace(changed).signals, strict=True
    ):
        assert torch.equal(one[:, :cut], other[:, :cut])
    assert not torch.equal(network(inputs), network(changed))


@pytest.mark.parametrize("name", ["temporal-conv", "conv"])
def test_the_others_look_ahead_as_far_as_their_kernels_reach(name, inputs):
    network = build(name, hidden="16,16,8" if name != "conv" else "4,4,6", kernel_size=3)
    changed = inputs.clone()
    changed[:, 15] += 30
    last = (network.trace(inputs).signals[-1], network.trace(changed).signals[-1])
    reach = 1 + 2 + 4  # one tap ahead in each layer, dilations 1, 2, 4
    assert torch.equal(last[0][:, : 15 - reach], last[1][:, : 15 - reach])
    assert not torch.equal(last[0][:, : 15 - reach + 3], last[1][:, : 15 - reach + 3])


def test_dilated_taps_are_the_steps_they_say():
    model = ModelGroup(network="temporal-conv", hidden="3", dilations="4", kernel_size=3)
    layer = build_network(model, FEATURES, CLASSES).linear[0]
    signal = torch.randn(2, STEPS, FEATURES)
    weight = next(layer.parameters())  # [3, F, 3]
    expected = torch.zeros(2, STEPS, 3)
    for step, tap in itertools.product(range(STEPS), range(3)):
        source = step + 4 * (tap - 1)
        if 0 <= source < STEPS:
            expected[:, step] += signal[:, source] @ weight[:, :, tap].T
    torch.testing.assert_close(layer(signal), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_readout_is_the_matrix_times_the_mean_spikes(inputs):
    network = build("learned")
    trace = network.trace(inputs)
    torch.testing.assert_close(trace.logits, network.readout.linear(trace.signals[-1].mean(1)))


@pytest.mark.parametrize("readout", ["mean", "membrane"])
def test_standard_features_say_the_same_and_have_no_mean(readout, inputs):
    network = build("standardised", readout=readout, dropout=0.5).double().eval()
    clips = inputs.double()
    before, spikes = network(clips), network.spike_trains(clips)[-1]
    for _ in range(2):  # from z = x, and from features that are standard already
        network.readout.fit_standard([spikes[:2], spikes[2:]])
        torch.testing.assert_close(network(clips), before)
    standard, linear = network.readout.standard, network.readout.linear
    shares, total = network.readout.time_shares(spikes)
    z = standard(shares @ spikes)
    deviation = (shares @ spikes).std(0)
    torch.testing.assert_close(z.mean(0), torch.zeros(8).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.std(0), deviation / (deviation + 0.05))
    weight, bias = network.readout.synapses()
    torch.testing.assert_close(total * (shares @ spikes @ weight.T + bias), before)
    assert not torch.equal(weight, linear.weight)


def test_trained_decays_start_in_their_range_from_the_runs_stream():
    settings = {"hidden": "400", "beta_range": "0.5,0.6"}
    one, two, other = (build("learned", **settings) for _ in range(3))
    initialise(other, 1)
    beta = one.neuron[0].decay().detach()  # pyright: ignore[reportCallIssue] - an LIF
    assert beta.min() >= 0.5
    assert beta.max() <= 0.6
    assert beta.std() == pytest.approx(0.1 / 12**0.5, rel=0.1)
    assert weights_hash(get_weights(one)) == weights_hash(get_weights(two))
    assert not torch.equal(one.neuron[0].beta, other.neuron[0].beta)


def test_the_default_network_starts_as_it_always_did():
    """Recorded before networks could be chosen: earlier runs replay."""
    network = build_network(ModelGroup(hidden="24,16"), 40, 10)
    initialise(network, 0)
    recorded = {
        "linear.0.weight": (24, 40, [0.04077523, -0.08657248, 0.05501629, 0.12045902]),
        "linear.1.weight": (16, 24, [0.13764799, -0.05494764, -0.1383788, 0.14092012]),
        "readout.linear.weight": (10, 16, [-0.15743878, 0.15345541, -0.13746682, -0.01528242]),
    }
    for name, value in network.state_dict().items():
        if value.ndim == 2:
            *shape, ends = recorded.pop(name)
            assert list(value.shape) == shape
            drawn = torch.cat([value.flatten()[:2], value.flatten()[-2:]])
            # a uniform number is scaled and shifted, in one rounding or two; the bound is 0.25
            assert_within_ulps(drawn, torch.tensor(ends), 2, of=torch.full((4,), 0.25))
        else:
            constant = {"norm": 0.5, "beta": 0.9, "threshold": 1.0, "bias": 0.0}
            part = name.split(".")[-1]
            kind = "norm" if name.startswith("norm") and part == "weight" else part
            assert bool((value == torch.tensor(constant[kind])).all()), name
    assert not recorded


def draws(inputs: torch.Tensor, *path: int, step: int = 0) -> BatchDraws:
    return DrawKeys.seeded(0, *path).of(inputs).batch(slice(None), step)


def test_dropout_is_the_same_for_the_same_keys_and_off_in_evaluation(inputs):
    network = build("temporal-conv", dropout=0.5)
    network.train()
    drawn = []
    for path, step in (((1, 2), 0), ((1, 2), 0), ((1, 3), 0), ((2, 2), 0), ((1, 2), 1)):
        set_draws(network, draws(inputs, *path, step=step))
        torch.manual_seed(len(drawn))  # the global generator decides nothing
        drawn.append(network(inputs))
    assert torch.equal(drawn[0], drawn[1])
    for other in drawn[2:]:
        assert not torch.equal(drawn[0], other)
    network.eval()
    assert torch.equal(network(inputs), build("temporal-conv")(inputs))


def test_dropout_drops_its_share_and_keeps_the_mean():
    network = build("feedforward", dropout=0.3)
    layer, ones = network.dropout[0], torch.ones(50, 40, 30)
    set_draws(network, draws(torch.arange(50)))
    out = layer(ones)
    assert (out == 0).double().mean() == pytest.approx(0.3, abs=0.01)
    assert out.mean() == pytest.approx(1.0, abs=0.02)
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]


def test_layers_of_a_network_drop_different_spikes():
    network = build("temporal-conv", dropout=0.5)
    set_draws(network, draws(torch.arange(4)))
    masks = [layer(torch.ones(4, 20, 16)) for layer in network.dropout]
    assert not torch.equal(masks[0], masks[1])


def test_a_clips_mask_is_its_own_whatever_else_is_in_the_mini_batch():
    layer, clips = Dropout(0.5), DrawKeys.seeded(0).of(torch.arange(9))
    set_draws([layer], clips.batch(slice(None), 4))
    together = layer(torch.ones(9, 20, 7))
    rows = [8, 2, 5]
    set_draws([layer], clips.batch(rows, 4))
    assert torch.equal(layer(torch.ones(3, 20, 7)), together[rows])


def test_dropout_without_draws_is_refused(inputs):
    with pytest.raises(RuntimeError, match="set_draws"):
        build("feedforward", dropout=0.1)(inputs)


def test_group_normalisation_is_torchs_of_every_step(inputs):
    network = build("temporal-conv, group")
    current = torch.randn(CLIPS, STEPS, 16)
    expected = F.group_norm(current.reshape(-1, 16), 4).reshape(current.shape)
    torch.testing.assert_close(network.norm[0](current), 0.5 * expected)


def test_trained_neurons_have_one_value_each():
    for neuron in build("learned").neuron:
        assert isinstance(neuron, LIF)
        assert neuron.beta.requires_grad
        assert neuron.threshold.requires_grad
        assert neuron.beta.shape == neuron.threshold.shape
        assert neuron.beta.ndim == 1
