"""Per-clip gradients of single layers against Opacus' grad samplers and one backward a clip."""

import copy
import itertools

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.training.per_clip.direct_layers import direct_runner
from fnl.training.per_clip.module import PerClipGradientModule

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (4, 11)),
    "conv1d same": (lambda: nn.Conv1d(4, 6, 5, padding="same", dilation=2, bias=False), (4, 11)),
    "conv1d same even": (lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=3), (4, 11)),
    "conv1d wide": (lambda: nn.Conv1d(4, 6, 9, padding="same", dilation=4), (4, 11)),
    "conv1d stride": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 12)),
    "conv1d pointwise": (lambda: nn.Conv1d(4, 6, 1), (4, 11)),
    "conv2d": (lambda: nn.Conv2d(2, 5, (3, 2), stride=(1, 2), padding=(2, 1)), (2, 7, 9)),
    "conv2d dilated": (lambda: nn.Conv2d(2, 5, 3, dilation=(2, 1), bias=False), (2, 7, 9)),
    "conv2d same": (lambda: nn.Conv2d(2, 5, 3, padding="same", dilation=(1, 2)), (2, 7, 9)),
    "conv2d same even": (lambda: nn.Conv2d(2, 5, (4, 3), padding="same"), (2, 7, 9)),
    "norm": (lambda: nn.LayerNorm(8), (11, 8)),
    "norm of two axes": (lambda: nn.LayerNorm((3, 8)), (11, 3, 8)),
    "norm of vectors": (lambda: nn.LayerNorm(8), (8,)),
    "norm of everything": (lambda: nn.LayerNorm((11, 8)), (11, 8)),
}
OPACUS_CANNOT = {"conv2d same even"}  # it raises: it pads both ends alike


def randomised(make) -> nn.Module:
    torch.manual_seed(0)
    layer = make()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


def one_backward_a_clip(layer: nn.Module, clips: Tensor, weights: Tensor) -> list[Tensor]:
    rows = [
        torch.autograd.grad((layer(clip) * weight).sum(), list(layer.parameters()))
        for clip, weight in zip(clips.split(1), weights.split(1), strict=True)
    ]
    return [torch.stack(gradients) for gradients in zip(*rows, strict=True)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_single_clips_and_of_opacus(name):
    make, shape = LAYERS[name]
    layer = randomised(make).double()
    clips = torch.randn(5, *shape, dtype=torch.float64)
    with torch.no_grad():
        weights = torch.randn_like(layer(clips))
    expected = one_backward_a_clip(layer, clips, weights)
    mine, theirs = (clips.clone().requires_grad_() for _ in range(2))
    wrapped = PerClipGradientModule(copy.deepcopy(layer), loss_reduction="sum")
    output, plain = wrapped(mine), layer(theirs)
    assert torch.allclose(output, plain, rtol=1e-12, atol=1e-12)
    (output * weights).sum().backward()
    (plain * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-10, atol=1e-10)
    for parameter, reference in zip(wrapped.parameters(), expected, strict=True):
        assert parameter.grad is None
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-10, atol=1e-10)
    if name in OPACUS_CANNOT:
        return
    hooked = GradSampleModule(copy.deepcopy(layer), loss_reduction="sum")
    (hooked(clips.clone().requires_grad_()) * weights).sum().backward()
    for parameter, reference in zip(wrapped.parameters(), hooked.parameters(), strict=True):
        assert torch.allclose(parameter.grad_sample, reference.grad_sample, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["conv1d same", "conv2d", "norm"])
def test_an_empty_batch_gives_empty_gradients(name):
    make, shape = LAYERS[name]
    wrapped = PerClipGradientModule(make(), loss_reduction="sum")
    wrapped(torch.zeros(0, *shape)).sum().backward()
    for parameter in wrapped.parameters():
        assert parameter.grad_sample.shape == (0, *parameter.shape)


def test_a_norm_without_bias_has_per_clip_gradients():
    layer = PerClipGradientModule(nn.LayerNorm(8, bias=False), loss_reduction="sum")
    signal = torch.randn(3, 5, 8)
    layer(signal).sum().backward()
    expected = nn.functional.layer_norm(signal, (8,)).sum(1)
    (weight,) = layer.parameters()
    assert torch.allclose(weight.grad_sample, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_convolutions_in_groups_are_left_to_opacus():
    grouped = nn.Conv1d(4, 6, 3, groups=2)
    assert direct_runner(grouped) is None
    assert direct_runner(nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular")) is None
    clips, weights = torch.randn(5, 4, 9), torch.randn(5, 6, 7)
    expected = one_backward_a_clip(grouped, clips, weights)
    wrapped = PerClipGradientModule(grouped, loss_reduction="sum")
    (wrapped(clips) * weights).sum().backward()
    for parameter, reference in zip(wrapped.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-4, atol=1e-5)


class Temporal(nn.Module):
    """Dilated convolutions over time, normalised over channels within each step."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 8, 8)
        self.conv = nn.ModuleList(
            nn.Conv1d(a, b, 5, padding="same", dilation=2**i, bias=False)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.norm = nn.ModuleList(nn.LayerNorm(8) for _ in self.conv)
        self.neuron = nn.ModuleList(
            LIF(0.8, 0.6, learn_beta=True, beta_map="sigmoid") for _ in self.conv
        )
        self.readout = LeakyReadout(8, 3)

    def forward(self, clips: Tensor) -> Tensor:
        signal = clips
        for conv, norm, neuron in zip(self.conv, self.norm, self.neuron, strict=True):
            signal = neuron(norm(conv(signal.transpose(1, 2)).transpose(1, 2)))
        return self.readout(signal)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_a_temporal_network_has_the_gradients_of_opacus_hooks():
    clips, labels = torch.randn(9, 20, 6), torch.arange(9) % 3
    torch.manual_seed(0)
    network = Temporal()
    ours, theirs = PerClipGradientModule(copy.deepcopy(network)), GradSampleModule(network)
    for model in (ours, theirs):
        nn.functional.cross_entropy(model(clips), labels).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if mine.requires_grad:
            assert bool((mine.grad_sample != 0).any())
            assert torch.allclose(mine.grad_sample, other.grad_sample, rtol=1e-4, atol=1e-6)
