"""Chains of layers as one operation of autograd, against the layers one by one."""

import copy

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.dropout import Dropout
from fnl.snn.kernels.dynamics import RESETS, Dynamics
from fnl.snn.kernels.lif import lif_backward, lif_forward
from fnl.snn.network import set_draws
from fnl.snn.networks.registry import build_network
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.recurrent import RecurrentLIF
from fnl.snn.neurons.synaptic import Synaptic
from fnl.snn.normalisation import StepGroupNorm
from fnl.snn.surrogates import atan
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.module import PerClipGradientModule

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def chain(dropout: float = 0.0) -> nn.Sequential:
    """Return a chain of everything: nested, with layers of Opacus' hooks and idle ones in it."""
    torch.manual_seed(0)
    twice = nn.Linear(8, 8, bias=False)
    return nn.Sequential(
        nn.Identity(),
        LIF(0.5, 0.3, learn_beta=True),
        nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), LIF(0.8, 0.6, learn_threshold=True)),
        Dropout(dropout),
        nn.Sequential(twice, nn.Identity(), Synaptic(0.7, 0.8, 0.5, learn_alpha=True), twice),
        StepGroupNorm(2, 8),
        RecurrentLIF(8, 0.9, 0.4, learn_beta=True),
        nn.Linear(8, 8),
        LIF(0.9, 0.4),
        LeakyReadout(8, 3),
    )


def batch(clips: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(clips)
    return torch.randn(clips, 15, 6, generator=generator), torch.arange(clips) % 3


def samples(model: nn.Module, clips: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the per-clip gradients of a backward pass, and the gradient of the input."""
    set_draws(model, DrawKeys.seeded(7).of(clips).batch(slice(None), 0))
    signal = clips.clone().requires_grad_()
    nn.functional.cross_entropy(model(signal), labels, reduction="sum").backward()
    assert signal.grad is not None
    return [p.grad_sample for p in model.parameters() if p.requires_grad], signal.grad


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_chain_has_the_gradients_of_opacus_hooks(dropout):
    clips, labels = batch()
    ours = PerClipGradientModule(chain(dropout), loss_reduction="sum", strict=False)
    theirs = GradSampleModule(chain(dropout), loss_reduction="sum", strict=False)
    (mine, mine_in), (other, other_in) = (samples(m, clips, labels) for m in (ours, theirs))
    assert len(mine) == len(other) == 17
    for a, b in zip([*mine, mine_in], [*other, other_in], strict=True):
        assert bool((a != 0).any())
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_chain_has_the_bits_of_its_layers_called_one_by_one():
    class OneByOne(nn.Module):
        def __init__(self, layers: nn.Module) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers.children())

        def forward(self, signal: Tensor) -> Tensor:
            for layer in self.layers:
                signal = layer(signal)
            return signal

    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 8), nn.LayerNorm(8), LIF(0.8, 0.6, learn_beta=True),
            nn.Linear(8, 8), LIF(0.9, 0.3), LeakyReadout(8, 3),
        )  # fmt: skip

    whole = PerClipGradientModule(network(), loss_reduction="sum")
    single = PerClipGradientModule(OneByOne(network()), loss_reduction="sum")
    (mine, mine_in), (other, other_in) = (samples(m, *batch()) for m in (whole, single))
    assert torch.equal(mine_in, other_in)
    for a, b in zip(mine, other, strict=True):
        assert torch.equal(a, b)


def test_a_network_is_one_operation_of_autograd():
    network = build_network(ModelGroup(hidden="8,8"), 6, 3)
    logits = PerClipGradientModule(network, loss_reduction="sum")(batch()[0])
    assert logits.grad_fn is not None
    behind = {type(node).__name__ for node, _ in logits.grad_fn.next_functions if node}
    assert behind == {"AccumulateGrad"}  # parameters and nothing else


def test_a_subclass_that_runs_otherwise_is_not_taken_for_a_chain():
    class Twofold(nn.Sequential):
        def forward(self, signal: Tensor) -> Tensor:
            return 2 * super().forward(signal)

    clips, labels = batch()
    torch.manual_seed(0)
    network = Twofold(nn.Linear(6, 8), LIF(0.8, 0.6), LeakyReadout(8, 3))
    ours = PerClipGradientModule(copy.deepcopy(network), loss_reduction="sum", strict=False)
    with torch.no_grad():
        assert torch.equal(ours(clips), network(clips))
    mine, _ = samples(ours, clips, labels)
    other, _ = samples(GradSampleModule(network, loss_reduction="sum"), clips, labels)
    for a, b in zip(mine, other, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_hooks_on_layers_of_a_chain_are_called():
    network, seen = chain(), []
    network[2][1].register_forward_hook(lambda *_: seen.append("norm"))
    network[4].register_forward_pre_hook(lambda *_: seen.append("inner chain"))
    network[0].register_forward_hook(lambda *_: seen.append("identity"))
    PerClipGradientModule(network, loss_reduction="sum", strict=False)(batch()[0])
    assert seen == ["identity", "norm", "inner chain"]


def test_what_comes_into_a_chain_and_into_its_way_back_is_not_overwritten():
    torch.manual_seed(0)
    network = nn.Sequential(LIF(0.8, 0.6, learn_beta=True), nn.Linear(6, 6), LIF(0.9, 0.2))
    model = PerClipGradientModule(network, loss_reduction="sum")
    clips, _ = batch()
    kept, spikes = clips.clone(), model(clips)
    gradient = torch.randn(spikes.shape)
    kept_gradient = gradient.clone()
    spikes.backward(gradient)
    assert torch.equal(clips, kept)
    assert torch.equal(gradient, kept_gradient)


def test_a_changed_input_and_a_second_way_back_are_refused():
    model = PerClipGradientModule(chain(), loss_reduction="sum", strict=False)
    clips, labels = batch()
    loss = nn.functional.cross_entropy(model(clips), labels)
    clips.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    network = nn.Sequential(nn.Linear(6, 3), LIF(0.9, 0.2))
    spikes = PerClipGradientModule(network, loss_reduction="sum")(clips).sum()
    spikes.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gone back through once"):
        spikes.backward()


def test_ghosts_of_a_chain_sum_as_the_gradients_written_out():
    clips, labels = batch()
    written, _ = samples(
        PerClipGradientModule(chain(), loss_reduction="sum", strict=False), clips, labels
    )
    ghost = GhostClippingModule(chain(), loss_reduction="sum", strict=False)
    nn.functional.cross_entropy(ghost(clips), labels, reduction="sum").backward()
    trained = [p for p in ghost.parameters() if p.requires_grad]
    norms = ghost.clip(trained, 0.5)
    expected = torch.stack([g.reshape(7, -1).norm(dim=1) for g in written], dim=1)
    assert torch.allclose(norms.parts, expected, rtol=1e-4, atol=1e-6)
    factors = (0.5 / (expected.norm(dim=1) + 1e-6)).clamp(max=1)
    for parameter, sample in zip(trained, written, strict=True):
        reference = torch.einsum("b,b...->...", factors, sample)
        assert torch.allclose(parameter.grad, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("delay", [True, False])
def test_a_kernel_that_overwrites_has_the_same_bits(reset, delay):
    dynamics = Dynamics(RESETS[reset], delay, atan())
    rows = torch.full((6,), 0.8), torch.full((6,), 0.3)
    current, grad = batch()[0], torch.randn(7, 15, 6)
    spikes, membrane, _ = lif_forward(current, *rows, dynamics, save=True)
    again, kept, _ = lif_forward(
        room := current.clone(), *rows, dynamics, save=True, overwrite=True
    )
    assert membrane is not None
    assert kept is room
    assert torch.equal(spikes, again)
    assert torch.equal(membrane, kept)
    expected = lif_backward(grad, membrane, *rows, dynamics)
    got = lif_backward(grad.clone(), kept, *rows, dynamics, overwrite=True)
    for a, b in zip(expected, got, strict=True):
        assert torch.equal(a, b)
