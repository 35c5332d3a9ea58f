"""Per-clip gradients delivered by the layers against Opacus' hooks."""

import copy
from collections import OrderedDict

import descending
import pytest
import torch
from descending import hooked, wrapped
from opacus.accountants import RDPAccountant
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.recurrent import RecurrentLIF, RecurrentRectified
from fnl.snn.neurons.synaptic import Synaptic
from fnl.training.per_clip.module import PerClipGradientModule

# Opacus' full backward hook on a first layer, whose input has no gradient, makes torch warn.
hooks_warn = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def mixed() -> nn.Sequential:
    """Return direct layers, one of them used twice, some frozen or without bias."""
    torch.manual_seed(0)
    twice, frozen = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
    frozen.weight.requires_grad_(False)
    layers = {
        "into": nn.Linear(6, 8),
        "norm": nn.LayerNorm(8),
        "lif": LIF(0.8, 0.6, learn_beta=True, learn_threshold=True),
        "twice": twice,
        "again": twice,
        "frozen": frozen,
        "recurrent": RecurrentLIF(8, 0.9, 0.4, bias=False, learn_beta=True),
        "synaptic": Synaptic(0.7, 0.8, 0.5, learn_alpha=True, learn_threshold=True),
        "adaptive": AdaptiveLIF(0.6, 0.9, 0.1, 0.3, 0.1, learn_a=True, learn_alpha=True),
        "rectified": Rectified(0.6, 0.1, learn_beta=True, learn_threshold=True),
        "rectified, recurrent": RecurrentRectified(8, 0.7, learn_beta=True),
        "readout": LeakyReadout(8, 3),
    }
    return nn.Sequential(OrderedDict(layers))


def batch(clips: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(clips)
    return torch.randn(clips, 15, 6, generator=generator), torch.arange(clips) % 3


def backward(model: GradSampleModule, clips: int) -> None:
    descending.backward(model, *batch(clips))


def assert_same_samples(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if not mine.requires_grad:
            continue
        pairs = (
            zip(mine.grad_sample, other.grad_sample, strict=True)
            if isinstance(other.grad_sample, list)
            else [(mine.grad_sample, other.grad_sample)]
        )
        for a, b in pairs:
            assert a.shape == b.shape
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), name


@hooks_warn
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_per_clip_gradients_equal_those_of_opacus_hooks(reduction):
    ours, theirs = wrapped(mixed(), reduction), hooked(mixed(), reduction)
    for model in (ours, theirs):
        backward(model, 7)
    assert_same_samples(ours, theirs)
    assert all(bool((p.grad_sample != 0).any()) for p in ours.parameters() if p.requires_grad)


@hooks_warn
def test_two_backward_passes_without_a_step_are_kept_apart_as_opacus_keeps_them():
    ours, theirs = wrapped(mixed()), hooked(mixed())
    for model in (ours, theirs):
        backward(model, 4)
        backward(model, 5)
    assert [len(g) for g in ours.into.weight.grad_sample] == [4, 5]
    assert_same_samples(ours, theirs)


@hooks_warn
def test_private_steps_end_in_opacus_parameters():
    trained = []
    for wrap in (wrapped, hooked):
        model = wrap(mixed())
        optimizer = DPOptimizer(
            torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5),
            noise_multiplier=0.8, max_grad_norm=0.3, expected_batch_size=6,
            generator=torch.Generator().manual_seed(5),
        )  # fmt: skip
        for clips in (6, 9, 1):
            optimizer.zero_grad()
            backward(model, clips)
            optimizer.step()
        trained.append(model.to_standard_module().state_dict())
    start = mixed().state_dict()
    assert trained[0].keys() == trained[1].keys() == start.keys()
    for name, value in trained[0].items():
        assert torch.allclose(value, trained[1][name], rtol=1e-4, atol=1e-5), name
    assert not torch.allclose(trained[0]["into.weight"], start["into.weight"])


def test_an_empty_batch_gives_empty_gradients_and_a_step_of_noise_alone():
    model = PerClipGradientModule(mixed(), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0),
        noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=6, loss_reduction="sum",
    )  # fmt: skip
    model.descent()(torch.zeros(0, 15, 6), lambda scores: (0.0, torch.ones_like(scores)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert parameter.grad_sample.shape == (0, *parameter.shape)
    optimizer.step()
    assert model.into.weight.grad.std().item() == pytest.approx(1.0, rel=0.4)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6), (4, 2, 3, 6)])
def test_a_linear_layer_may_have_any_number_of_axes_between_clips_and_features(shape):
    torch.manual_seed(0)
    signal, layer = torch.randn(shape), nn.Linear(6, 5)
    expected = [
        torch.autograd.grad(layer(clip).square().sum(), list(layer.parameters()))
        for clip in signal.split(1)
    ]
    wrapped(layer).descent()(signal, lambda output: (0.0, 2 * output))
    for index, parameter in enumerate(layer.parameters()):
        reference = torch.stack([row[index] for row in expected])
        assert torch.allclose(parameter.grad_sample, reference, rtol=1e-4, atol=1e-5)
        assert parameter.grad is None


def test_called_as_they_are_the_layers_are_ordinary():
    signal, _ = batch(4)
    model, plain = wrapped(mixed()), mixed()
    with torch.no_grad():
        assert torch.equal(model(signal), plain(signal))
    assert all(p._forward_counter == 0 for p in model.parameters() if p.requires_grad)


def test_unwrapping_leaves_no_trace():
    private = wrapped(mixed())
    backward(private, 3)
    plain = private.to_standard_module()
    signal, labels = batch(3)
    nn.functional.cross_entropy(plain(signal), labels).backward()
    assert plain.into.weight.grad is not None
    assert not hasattr(plain.into.weight, "grad_sample")
    assert not plain.into._forward_hooks
    assert copy.deepcopy(plain).state_dict().keys() == mixed().state_dict().keys()


def test_accumulation_is_refused_where_opacus_forbids_it():
    model = PerClipGradientModule(mixed())
    model.forbid_grad_accumulation()
    backward(model, 3)
    with pytest.raises(ValueError, match=r"optimizer\.step"):
        backward(model, 3)


def test_a_wrong_loss_reduction_is_refused():
    with pytest.raises(ConfigError, match="must be mean or sum, got 'none'"):
        PerClipGradientModule(mixed(), loss_reduction="none")


def test_opacus_accountant_counts_the_steps_of_its_optimizer():
    model, accountant = PerClipGradientModule(mixed()), RDPAccountant()
    optimizer = DPOptimizer(
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1),
        noise_multiplier=1.5, max_grad_norm=1.0, expected_batch_size=6,
    )  # fmt: skip
    optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=0.25))
    for _ in range(3):
        optimizer.zero_grad()
        backward(model, 6)
        optimizer.step()
    assert accountant.history == [(1.5, 0.25, 3)]
