"""A network's own way forward and back, against Opacus' hooks and autograd."""

import copy

import pytest
import torch
from descending import backward, hooked, samples, trained, wrapped
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.dropout import Dropout
from fnl.snn.network import build_network, set_draws
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.synaptic import Synaptic
from fnl.snn.normalisation import StepGroupNorm
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.weights import get_weights, set_weights

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

CLIPS, STEPS, FEATURES, CLASSES = 7, 15, 6, 4

STRAIGHT: dict[str, dict[str, object]] = {
    "feedforward": {},
    "recurrent": {"network": "recurrent"},
    "synaptic": {"neuron": "synaptic"},
    "adlif": {"neuron": "adlif", "threshold": 0.1},
    "temporal-conv": {"network": "temporal-conv", "kernel_size": 3},
    "conv": {"network": "conv", "hidden": "3,4", "kernel_size": 3},
    "delays": {"network": "delays", "kernel_size": 3},
    "all layers": {"hidden": "9,7,8", "readout_layers": "all"},
    "all layers, delays": {"network": "delays", "kernel_size": 3, "readout_layers": "all"},
}
"""Networks of nothing but layers that go back by themselves."""


def batch(clips: int = CLIPS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(clips, STEPS, FEATURES, generator=generator)
    return 2 * features, torch.arange(clips) % CLASSES


def straight(name: str = "feedforward", **model: object) -> nn.Module:
    torch.manual_seed(0)
    options = {"hidden": "9,8", "threshold": 0.4, "learn_beta": True, **STRAIGHT[name], **model}
    return build_network(ModelGroup.model_validate(options), FEATURES, CLASSES)


def chain(dropout: float = 0.0) -> nn.Sequential:
    """Return a chain of everything: nested, with layers of Opacus' hooks and idle ones in it."""
    torch.manual_seed(0)
    twice = nn.Linear(8, 8, bias=False)
    return nn.Sequential(
        nn.Identity(),
        LIF(0.5, 0.3, learn_beta=True),
        nn.Sequential(nn.Linear(FEATURES, 8), nn.LayerNorm(8), LIF(0.8, 0.6, learn_threshold=True)),
        Dropout(dropout),
        nn.Sequential(twice, nn.Identity(), Synaptic(0.7, 0.8, 0.5, learn_alpha=True), twice),
        StepGroupNorm(2, 8),
        RecurrentLIF(8, 0.9, 0.4, learn_beta=True),
        nn.Linear(8, 8),
        nn.Tanh(),  # autograd keeps what it puts out
        LIF(0.9, 0.2),
        nn.Linear(8, 8),
        LIF(0.9, 0.4),
        LeakyReadout(8, CLASSES),
    )


NETWORKS = {**{name: (lambda name=name: straight(name)) for name in STRAIGHT}, "chain": chain}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradients_are_those_of_opacus_hooks(name, reduction, smoothing):
    ours = wrapped(NETWORKS[name](), reduction)
    theirs = hooked(NETWORKS[name](), reduction)
    value, reference = (backward(model, *batch(), smoothing) for model in (ours, theirs))
    assert value == pytest.approx(reference, rel=1e-6)
    for mine, other in zip(samples(ours), samples(theirs), strict=True):
        assert bool((mine != 0).any())
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", STRAIGHT)
def test_direct_layers_alone_leave_autograds_backward_out(name, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("autograd was asked")

    ours = wrapped(straight(name))
    monkeypatch.setattr(torch.autograd, "backward", refuse)
    backward(ours, *batch())
    assert all(gradient is not None for gradient in samples(ours))
    assert all(parameter.grad is None for parameter in trained(ours))


def drawing(dropout: float) -> nn.Module:
    return straight(dropout=dropout, encoding="rate")


@pytest.mark.parametrize("make", [chain, drawing])
def test_dropout_and_an_encoder_that_draws_are_those_of_the_forward_pass(make):
    clips, labels = batch()
    found = []
    for wrap in (wrapped, hooked):
        network = make(0.3)
        set_draws(network, DrawKeys.seeded(3, 1, 2).of(clips).batch(slice(None), 0))
        private = wrap(network)
        backward(private, clips, labels)
        found.append(samples(private))
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


PLACES = {
    "whole": lambda private: private,
    "network": lambda private: private._module,
    "identity": lambda private: private._module[0],
    "inner chain": lambda private: private._module[4],
    "layer": lambda private: private._module[2][1],
}


@pytest.mark.parametrize("place", PLACES)
def test_hooks_of_anybody_are_called_and_change_nothing(place):
    private, plain, seen = wrapped(chain()), wrapped(chain()), []
    PLACES[place](private).register_forward_hook(lambda *_: seen.append(place))
    for model in (private, plain):
        backward(model, *batch())
    assert seen == [place]
    for mine, other in zip(samples(private), samples(plain), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_a_network_in_evaluation_is_refused_and_a_frozen_one_delivers_nothing():
    private = wrapped(straight())
    with pytest.raises(RuntimeError, match=r"call train\(\)"):
        backward(private.eval(), *batch())
    private.train().requires_grad_(False)
    assert backward(private, *batch()) > 0
    found = [getattr(p, "grad_sample", None) for p in private.parameters()]
    assert found == [None] * len(found)


def test_nothing_goes_back_through_what_comes_before_the_first_trained_layer():
    class Untouched(nn.Module):
        def forward(self, signal: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return signal + 1

    torch.manual_seed(0)
    network = nn.Sequential(Untouched(), nn.Linear(FEATURES, 8), LIF(0.8, 0.3), nn.Linear(8, 8))
    network[1].requires_grad_(False)
    private = wrapped(nn.Sequential(*network, LIF(0.9, 0.3), LeakyReadout(8, CLASSES)))
    backward(private, *batch())
    assert [tuple(gradient.shape) for gradient in samples(private)] == [
        (CLIPS, 8, 8), (CLIPS, 8), (CLIPS, CLASSES, 8), (CLIPS, CLASSES),
    ]  # fmt: skip


def test_a_subclass_that_runs_otherwise_is_not_taken_for_its_base():
    class Twofold(nn.Sequential):
        def forward(self, signal: Tensor) -> Tensor:
            return 2 * super().forward(signal)

    class Doubled(nn.Linear):
        def forward(self, signal: Tensor) -> Tensor:
            return 2 * super().forward(signal)

    torch.manual_seed(0)
    network = Twofold(Doubled(FEATURES, 8), LIF(0.8, 0.6), nn.Linear(8, CLASSES), Summed())
    plain = copy.deepcopy(network)
    private = wrapped(network)
    clips, labels = batch()
    backward(private, clips, labels)
    for clip in range(CLIPS):
        plain.zero_grad()
        one = slice(clip, clip + 1)
        nn.functional.cross_entropy(plain(clips[one]), labels[one]).backward()
        for mine, other in zip(samples(private), trained(plain), strict=True):
            assert torch.allclose(mine[clip], other.grad, rtol=1e-4, atol=1e-6)


class Summed(nn.Module):
    """The sum over time, whose gradient is one tensor for all steps."""

    def forward(self, signal: Tensor) -> Tensor:
        return signal.sum(1)


def test_what_comes_into_a_chain_and_into_its_way_back_is_not_overwritten():
    torch.manual_seed(0)
    network = nn.Sequential(LIF(0.8, 0.6, learn_beta=True), nn.Linear(6, 6), LIF(0.9, 0.2))
    clips, _ = batch()
    kept, gradient = clips.clone(), torch.randn(clips.shape)
    kept_gradient = gradient.clone()
    wrapped(network).descent()(clips, lambda _: (0.0, gradient))
    assert torch.equal(clips, kept)
    assert torch.equal(gradient, kept_gradient)


def test_ghosts_of_a_chain_sum_as_the_gradients_written_out():
    written = wrapped(chain())
    backward(written, *batch())
    ghost = GhostClippingModule(chain(), loss_reduction="sum", strict=False)
    backward(ghost, *batch())
    norms = ghost.clip(trained(ghost), 0.5)
    rows = [g.reshape(CLIPS, -1).norm(dim=1) for g in samples(written)]
    expected = torch.stack(rows, dim=1)
    assert torch.allclose(norms.parts, expected, rtol=1e-4, atol=1e-6)
    factors = (0.5 / (expected.norm(dim=1) + 1e-6)).clamp(max=1)
    for parameter, sample in zip(trained(ghost), samples(written), strict=True):
        reference = torch.einsum("b,b...->...", factors, sample)
        assert torch.allclose(parameter.grad, reference, rtol=1e-4, atol=1e-6)


def test_weights_written_between_steps_are_the_ones_used():
    """Rows of constants are kept by their value, which may be written in place."""
    network = straight(learn_beta=False)
    private = PerClipGradientModule(network, loss_reduction="sum")
    backward(private, *batch())
    before = [gradient.clone() for gradient in samples(private)]
    with torch.no_grad():
        network.get_submodule("neuron.0").threshold.data.fill_(0.9)
    set_weights(network, get_weights(network))
    for parameter in private.parameters():
        parameter.grad_sample = None
    backward(private, *batch())
    after = samples(private)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    private.remove_hooks()
    for parameter in network.parameters():
        parameter.grad_sample = None
    fresh = hooked(network)
    backward(fresh, *batch())
    for mine, other in zip(after, samples(fresh), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
