"""Ghost and per-layer clipping against gradients written out, and against Opacus' own."""

import copy
from collections.abc import Callable

import pytest
import torch
from descending import backward, hooked, samples, trained, wrapped
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from fnl.config import TrainingGroup
from fnl.errors import ConfigError
from fnl.snn.networks.taps import Taps
from fnl.snn.networks.temporal_conv import TemporalConv
from fnl.snn.neurons.adaptive import AdaptiveLIF
from fnl.snn.neurons.lif import LIF, LeakyReadout
from fnl.snn.neurons.rectified import Rectified
from fnl.snn.neurons.recurrent import RecurrentLIF, RecurrentRectified
from fnl.snn.neurons.synaptic import Synaptic
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.per_clip.clip_gradients import LinearGradients
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.grad_samplers import register_grad_samplers
from fnl.training.plan import TrainingPlan
from tests.own_networks import OverTime
from tests.training.small import sgd

STEPS, FEATURES, CLASSES = 14, 6, 3

# Opacus' full backward hook on a first layer, whose input has no gradient, makes torch warn.
hooks_warn = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def every_layer() -> nn.Sequential:
    """All layers of ours, some wide enough to be clipped as ghosts and some not; one for hooks."""
    return nn.Sequential(
        nn.Linear(FEATURES, 80),
        LIF(0.8, 0.4, learn_beta=True, learn_threshold=True),
        TemporalConv(80, 8, Taps(3, 2)),
        nn.LayerNorm(8),
        Synaptic(0.5, 0.8, 0.4, learn_alpha=True),
        OverTime(nn.GroupNorm(2, 8)),  # over all steps of a clip: a layer for Opacus' hooks
        AdaptiveLIF(0.6, 0.9, 0.1, 0.2, 0.1, learn_b=True, learn_alpha=True),
        RecurrentLIF(8, 0.8, 0.4),
        Rectified(0.6, 0.1, learn_beta=True, learn_threshold=True),
        RecurrentRectified(8, 0.7),
        LeakyReadout(8, CLASSES),
    )


def tied() -> nn.Sequential:
    twice = nn.Linear(FEATURES, FEATURES)
    return nn.Sequential(twice, nn.Tanh(), twice, LeakyReadout(FEATURES, CLASSES))


class ByItself(nn.Module):
    """A network that is no chain: its layers are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = every_layer()

    def forward(self, clips: Tensor) -> Tensor:
        return self.layers(clips)


def network(kind: Callable[[], nn.Module] = every_layer) -> nn.Module:
    torch.manual_seed(0)
    return kind().double()


def batch(clips: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(clips)
    features = 2 * torch.randn(clips, STEPS, FEATURES, generator=generator, dtype=torch.float64)
    return features, torch.arange(clips) % CLASSES


def written_out(model: nn.Module, clips: int) -> list[Tensor]:
    """Per-clip gradients by Opacus' hooks, [B, *p.shape] each."""
    private = hooked(copy.deepcopy(model))
    backward(private, *batch(clips))
    return samples(private)


@hooks_warn
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("kind", [every_layer, tied, ByItself])
def test_ghost_norms_and_clipped_sums_are_those_of_the_gradients_written_out(kind, per_layer):
    model = network(kind)
    rows = written_out(model, 11)
    layer_norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in rows], dim=1)
    norms = layer_norms.norm(dim=1)
    bound = float(norms.median())
    ghost = GhostClippingModule(model, loss_reduction="sum")
    backward(ghost, *batch(11))
    assert next(ghost.parameters()).grad is None
    assert torch.allclose(ghost.clip(trained(ghost), bound, per_layer=per_layer).parts, layer_norms)
    for index, (parameter, sample) in enumerate(zip(trained(ghost), rows, strict=True)):
        scale = bound / len(rows) ** 0.5 / layer_norms[:, index] if per_layer else bound / norms
        expected = torch.einsum("b,b...->...", scale.clamp(max=1), sample)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clipping", ["flat", "per-layer"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_private_training_by_ghosts_is_private_training(optimizer, clipping):
    results = []
    for method in ("per-clip", "ghost"):
        model = network()
        summary = train(
            model, *batch(9), TrainingPlan(6, 0.3, 0.05, TrainingGroup(optimizer=optimizer)),
            batches=torch.Generator().manual_seed(1), noise=torch.Generator().manual_seed(2),
            mechanism=GaussianMechanism(0.7, 0.8, clipping, method),
        )  # fmt: skip
        results.append((torch.cat([p.detach().flatten() for p in trained(model)]), summary))
    (first, summary), (second, ghost_summary) = results
    start = torch.cat([p.detach().flatten() for p in trained(network())])
    assert (first - start).norm() > 0.1
    # per-layer bounds go through float32 in Opacus
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
    assert ghost_summary.loss == pytest.approx(summary.loss, rel=1e-5)
    assert ghost_summary.clip_fraction == pytest.approx(summary.clip_fraction)
    assert ghost_summary.gradient_norm_median == pytest.approx(
        summary.gradient_norm_median, rel=1e-5
    )


def test_an_empty_sample_is_the_same_noise_in_both_methods():
    moved = []
    for method in ("per-clip", "ghost"):
        model = network()
        summary = train(
            model, *batch(3), sgd(3, 1e-9, 1.0),
            batches=torch.Generator().manual_seed(1), noise=torch.Generator().manual_seed(2),
            mechanism=GaussianMechanism(1.0, 1e-9, "flat", method),
        )  # fmt: skip
        assert summary.loss is None
        moved.append(torch.cat([p.detach().flatten() for p in trained(model)]))
    assert torch.equal(*moved)
    assert not torch.equal(moved[0], torch.cat([p.detach().flatten() for p in trained(network())]))


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
def test_per_layer_clipping_bounds_every_layer_and_the_whole(method):
    model, (features, labels) = network(), batch(1)
    start = [p.detach().clone() for p in trained(model)]
    train(
        model, 100 * features, labels, sgd(1, 1.0, 1.0),
        batches=torch.Generator().manual_seed(1), noise=torch.Generator().manual_seed(2),
        mechanism=GaussianMechanism(0.0, 0.01, "per-layer", method),
    )  # fmt: skip
    norms = torch.stack([
        (p.detach() - before).norm() for p, before in zip(trained(model), start, strict=True)
    ])  # fmt: skip
    bound = 0.01 / len(start) ** 0.5
    assert bool((norms <= bound * (1 + 1e-6)).all())
    assert float((norms > 0.99 * bound).double().mean()) > 0.5
    assert float(norms.norm()) <= 0.01 * (1 + 1e-6)


@hooks_warn
def test_opacus_own_ghost_clipping_takes_our_layers_and_agrees():
    model, (features, labels) = network(), batch(8)
    register_grad_samplers(model)
    theirs = GradSampleModuleFastGradientClipping(
        copy.deepcopy(model), loss_reduction="sum", max_grad_norm=0.5
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(trained(theirs), lr=1.0), noise_multiplier=0.0, max_grad_norm=0.5,
        expected_batch_size=8, loss_reduction="sum",
    )  # fmt: skip
    criterion = DPLossFastGradientClipping(
        theirs, optimizer, nn.CrossEntropyLoss(reduction="sum"), loss_reduction="sum"
    )
    criterion(theirs(features), labels).backward()
    ours = GhostClippingModule(model, loss_reduction="sum")
    backward(ours, features, labels)
    norms = ours.clip(trained(ours), 0.5).whole
    assert torch.allclose(norms, theirs.per_sample_gradient_norms, rtol=1e-9)
    # Opacus adds 1e-6 to norms of doubles, too
    close = 2e-6 * float(norms.max() / norms.min())
    for mine, other in zip(trained(ours), trained(theirs), strict=True):
        assert (mine.grad - other.grad).norm() < close * other.grad.norm()


def test_no_gradient_of_a_clip_is_written_out_where_the_layer_is_wide(monkeypatch):
    def refuse(_self):
        raise AssertionError("written out")

    monkeypatch.setattr("fnl.training.per_clip.clip_gradients.LinearGradients.written_out", refuse)
    ghost = GhostClippingModule(network(), loss_reduction="sum")
    backward(ghost, *batch(8))
    ghost.clip(trained(ghost), 1.0)
    with pytest.raises(AssertionError, match="written out"):
        backward(wrapped(network()), *batch(8))


def test_a_second_backward_pass_or_a_clip_without_one_is_refused():
    ghost = GhostClippingModule(network())
    backward(ghost, *batch(4))
    with pytest.raises(ValueError, match="`clip` after every backward pass"):
        backward(ghost, *batch(4))
    ghost = GhostClippingModule(network())
    with pytest.raises(ValueError, match="had no part in one backward pass"):
        ghost.clip(trained(ghost), 1.0)


@pytest.mark.parametrize(
    ("clipping", "method", "message"),
    [
        ("layer", "ghost", "choose one of flat, per-layer"),
        ("flat", "fast", "choose per-clip or ghost"),
    ],
)
def test_unknown_ways_of_clipping_are_refused(clipping, method, message):
    with pytest.raises(ConfigError, match=message):
        GaussianMechanism(1.0, 1.0, clipping, method)


@pytest.mark.parametrize("outputs", [8, 256])
def test_no_norm_is_below_what_is_summed_where_terms_cancel(outputs):
    """Features of mean zero and output gradients that are constant in time: rounding is all of it.

    256 outputs take the way over [K, K] matrices, where such norms were 0, and 8 the other.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 50, 40, generator=generator)
    inputs = inputs - inputs.mean(1, keepdim=True)
    constant = torch.randn(64, 1, outputs, generator=generator).expand(-1, 50, -1) * 1e6
    gradients = LinearGradients(constant.contiguous(), inputs, 1)
    norms = gradients.squared_norms().sqrt()
    written = gradients.written_out().flatten(1).norm(dim=1)
    assert (norms >= written).all()
    for clip in range(0, 64, 7):
        alone = torch.zeros(64)
        alone[clip] = 1 / norms[clip]
        assert gradients.weighted_sum(alone).norm() <= 1.0
    # where nothing cancels, they are what they were
    plain = LinearGradients(torch.randn(64, 50, outputs, generator=generator), inputs, 1)
    expected = plain.written_out().flatten(1).norm(dim=1)
    torch.testing.assert_close(plain.squared_norms().sqrt(), expected, rtol=1e-5, atol=0)
