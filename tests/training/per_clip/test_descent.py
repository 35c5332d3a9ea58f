"""Backward passes that autograd has no part in, against the same with it."""

from functools import partial

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.network import set_draws
from fnl.snn.networks.registry import build_network
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.normalisation import StepGroupNorm
from fnl.training.cross_entropy import cross_entropy
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.module import PerClipGradientModule
from fnl.weights import get_weights, set_weights

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

CLIPS, STEPS, FEATURES, CLASSES = 7, 15, 6, 4


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(CLIPS, STEPS, FEATURES, generator=generator)
    return 2 * clips, torch.arange(CLIPS) % CLASSES


def straight(**model: object) -> nn.Module:
    """Return a network that is nothing but direct layers."""
    torch.manual_seed(0)
    options = {"hidden": "9,8", "threshold": 0.4, "learn_beta": True} | model
    return build_network(ModelGroup(**options), FEATURES, CLASSES)


def with_opacus_layer(**_: object) -> nn.Module:
    """Return a network with a layer that is left to Opacus' hooks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(FEATURES, 8), StepGroupNorm(2, 8), LIF(0.9, 0.3), LeakyReadout(8, CLASSES)
    )


def gradients(wrapped: GradSampleModule) -> list[Tensor]:
    return [p.grad_sample for p in wrapped.parameters() if p.requires_grad]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("network", [straight, with_opacus_layer])
def test_descending_is_the_backward_pass(network, smoothing):
    clips, labels = batch()
    ours, theirs = (
        PerClipGradientModule(network(), loss_reduction="sum", strict=False) for _ in range(2)
    )
    value = ours.descent()(clips, partial(cross_entropy, labels=labels, label_smoothing=smoothing))
    loss = nn.functional.cross_entropy(
        theirs(clips), labels, reduction="sum", label_smoothing=smoothing
    )
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-6)
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        assert bool((mine != 0).any())
        assert torch.equal(mine, other)


def test_a_network_of_direct_layers_has_the_gradients_of_opacus():
    clips, labels = batch()
    ours = PerClipGradientModule(straight(), loss_reduction="sum")
    theirs = GradSampleModule(straight(), loss_reduction="sum", strict=False)
    ours.descent()(clips, partial(cross_entropy, labels=labels))
    nn.functional.cross_entropy(theirs(clips), labels, reduction="sum").backward()
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_direct_layers_alone_leave_autograd_out(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("autograd was asked")

    clips, labels = batch()
    ours = PerClipGradientModule(straight(), loss_reduction="sum")
    monkeypatch.setattr(Tensor, "backward", refuse)
    ours.descent()(clips, partial(cross_entropy, labels=labels))
    assert all(gradient is not None for gradient in gradients(ours))


def test_dropout_and_an_encoder_that_draws_are_those_of_the_forward_pass():
    clips, labels = batch()
    found = []
    for descends in (True, False):
        network = straight(dropout=0.3, encoding="rate")
        set_draws(network, DrawKeys.seeded(3, 1, 2).of(clips).batch(slice(None), 0))
        wrapped = PerClipGradientModule(network, loss_reduction="sum", strict=False)
        if descends:
            wrapped.descent()(clips, partial(cross_entropy, labels=labels))
        else:
            nn.functional.cross_entropy(wrapped(clips), labels, reduction="sum").backward()
        found.append(gradients(wrapped))
    for mine, other in zip(*found, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("place", ["whole", "network", "layer"])
def test_hooks_of_anybody_are_called(place):
    clips, labels = batch()
    network, seen = with_opacus_layer() if place == "network" else straight(), []
    wrapped = PerClipGradientModule(network, loss_reduction="sum", strict=False)
    hooked = {"whole": wrapped, "network": network, "layer": list(network.children())[-1]}
    if place == "layer":
        hooked["layer"] = network.get_submodule("readout")
    hooked[place].register_forward_hook(lambda *_: seen.append(place))
    wrapped.descent()(clips, partial(cross_entropy, labels=labels))
    assert seen == [place]


def test_a_frozen_network_and_one_in_evaluation_deliver_nothing():
    clips, labels = batch()
    wrapped = PerClipGradientModule(straight(), loss_reduction="sum")
    wrapped.eval()
    with pytest.raises(RuntimeError, match=r"does not require grad"), torch.no_grad():
        wrapped.descent()(clips, partial(cross_entropy, labels=labels))
    assert all(p.grad_sample is None for p in wrapped.parameters() if p.requires_grad)


def test_ghosts_descend_too():
    clips, labels = batch()
    sums = []
    for descends in (True, False):
        ghost = GhostClippingModule(straight(), loss_reduction="sum")
        if descends:
            ghost.descent()(clips, partial(cross_entropy, labels=labels))
        else:
            nn.functional.cross_entropy(ghost(clips), labels, reduction="sum").backward()
        trained = [p for p in ghost.parameters() if p.requires_grad]
        norms = ghost.clip(trained, 0.2)
        sums.append([norms.whole, *(p.grad for p in trained)])
    for mine, other in zip(*sums, strict=True):
        assert torch.equal(mine, other)


def test_weights_written_between_steps_are_the_ones_used():
    """Rows of constants are kept by their value, which may be written in place."""
    clips, labels = batch()
    network = straight(learn_beta=False)
    wrapped = PerClipGradientModule(network, loss_reduction="sum")
    wrapped.descent()(clips, partial(cross_entropy, labels=labels))
    before = [gradient.clone() for gradient in gradients(wrapped)]
    with torch.no_grad():
        network.get_submodule("neuron.0").threshold.data.fill_(0.9)
    set_weights(network, get_weights(network))
    for parameter in wrapped.parameters():
        parameter.grad_sample = None
    wrapped.descent()(clips, partial(cross_entropy, labels=labels))
    after = gradients(wrapped)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    wrapped.remove_hooks()
    for parameter in network.parameters():
        parameter.grad_sample = None
    fresh = GradSampleModule(network, loss_reduction="sum", strict=False)
    nn.functional.cross_entropy(fresh(clips), labels, reduction="sum").backward()
    for mine, other in zip(after, gradients(fresh), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
