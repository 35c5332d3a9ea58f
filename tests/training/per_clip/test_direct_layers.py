"""Per-clip gradients of single layers against Opacus' grad samplers and one backward a clip."""

import copy

import pytest
import torch
from descending import hooked, samples, wrapped
from torch import Tensor, nn

from fnl.training.per_clip.direct_layers import direct_runner

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
    theirs = clips.clone().requires_grad_()
    plain = layer(theirs)
    (plain * weights).sum().backward()
    direct = copy.deepcopy(layer)
    run = direct_runner(direct)
    found: dict[nn.Parameter, Tensor] = {}
    with torch.no_grad():
        output, back = run(direct, clips, 1, False)
        grad = back(weights, lambda p, one: found.update({p: one.written_out()}), True)
    assert torch.allclose(output, plain, rtol=1e-12, atol=1e-12)
    assert torch.allclose(grad, theirs.grad, rtol=1e-10, atol=1e-10)
    for parameter, reference in zip(direct.parameters(), expected, strict=True):
        assert parameter.grad is None
        assert torch.allclose(found[parameter], reference, rtol=1e-10, atol=1e-10)
    if name in OPACUS_CANNOT:
        return
    theirs_too = hooked(copy.deepcopy(layer))
    (theirs_too(clips.clone().requires_grad_()) * weights).sum().backward()
    for parameter, sample in zip(direct.parameters(), samples(theirs_too), strict=True):
        assert torch.allclose(found[parameter], sample, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["conv1d same", "conv2d", "norm"])
def test_an_empty_batch_gives_empty_gradients(name):
    make, shape = LAYERS[name]
    private = wrapped(make())
    private.descent()(torch.zeros(0, *shape), lambda output: (0.0, torch.ones_like(output)))
    for parameter in private.parameters():
        assert parameter.grad_sample.shape == (0, *parameter.shape)


def test_a_norm_without_bias_has_per_clip_gradients():
    layer = wrapped(nn.LayerNorm(8, bias=False))
    signal = torch.randn(3, 5, 8)
    layer.descent()(signal, lambda output: (0.0, torch.ones_like(output)))
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
    private = wrapped(grouped)
    private.descent()(clips, lambda _: (0.0, weights))
    for parameter, reference in zip(private.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-4, atol=1e-5)
