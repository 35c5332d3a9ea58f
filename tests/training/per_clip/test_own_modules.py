"""Per-clip gradients of modules that users write: those of each clip alone, whatever is inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from descending import trained, wrapped
from torch import Tensor, nn
from user_modules import CLASSES, FEATURES, ONE_BY_ONE, STEPS, TOGETHER, Drawing, Matrix, Tied

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.dropout import Dropout
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import SpikingNetwork, set_draws
from fnl.training.dp_sgd import train
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.own_modules import OwnModule
from fnl.weights import get_weights
from tests import own_networks
from tests.training.small import sgd


def batch(clips: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, STEPS, FEATURES, generator=generator), torch.arange(clips) % CLASSES


def network(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return own_networks.OnCurrent(CLASSES, kind(), features=FEATURES)


def own_network(name: str) -> nn.Module:
    if name == "spikingjelly" and find_spec("spikingjelly") is None:
        pytest.skip("spikingjelly is not installed")
    torch.manual_seed(0)
    return getattr(own_networks, name)(ModelGroup(), FEATURES, CLASSES)


def alone(model: nn.Module, clips: Tensor, labels: Tensor) -> list[Tensor]:
    """Return the gradients of each clip, each by a network that was never run."""
    draws = DrawKeys.seeded(3).of(clips)
    rows = []
    for clip in range(len(clips)):
        fresh = copy.deepcopy(model).train()
        set_draws(fresh, draws.batch([clip], 0))
        loss = F.cross_entropy(fresh(clips[clip : clip + 1]), labels[clip : clip + 1])
        parameters = trained(fresh)
        rows.append(
            torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        )
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def descend(module: nn.Module, model: nn.Module, clips: Tensor, labels: Tensor) -> None:
    """Go forward and back as private training does."""
    state = HiddenState(model)
    descent = module.descent()
    for seed in (9, 0):  # a batch before must leave nothing behind
        for parameter in trained(model):
            parameter.grad_sample = None
        given = batch(len(clips), 9) if seed else (clips, labels)
        state.rest()
        set_draws(model, DrawKeys.seeded(3).of(given[0]).batch(slice(None), 0))
        descent(given[0], lambda scores, given=given: TrainingLoss()(scores, given[1]))
        if seed and isinstance(module, GhostClippingModule):
            module.clip(trained(model), 1.0)
    state.rest()


def assert_gradients_of_each_clip(model: nn.Module, clips: int = 6) -> OwnModule:
    """Assert that they are those of each clip alone; return the module of the user's."""
    data = batch(clips)
    expected = alone(model, *data)
    private = wrapped(model.train())
    descend(private, model, *data)
    for (name, parameter), rows in zip(
        ((n, p) for n, p in model.named_parameters() if p.requires_grad), expected, strict=True
    ):
        scale = max(float(rows.abs().max()), 1e-4)
        torch.testing.assert_close(
            parameter.grad_sample, rows, rtol=1e-3, atol=1e-4 * scale, msg=name
        )
    private.remove_hooks()
    assert sum(bool(rows.any()) for rows in expected) >= len(expected) - 2
    (own,) = private._own.values()
    return own


@pytest.mark.parametrize("name", TOGETHER)
def test_gradients_of_each_clip_come_out_of_one_pass(name):
    assert assert_gradients_of_each_clip(network(TOGETHER[name])).together is not None


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_where_one_pass_would_be_wrong_clips_run_one_by_one(name):
    assert assert_gradients_of_each_clip(network(ONE_BY_ONE[name])).together is None


@pytest.mark.parametrize("name", own_networks.NETWORKS)
def test_gradients_of_networks_as_users_write_them(name):
    own = assert_gradients_of_each_clip(own_network(name))
    assert (own.together is None) == (name == "gru")


@pytest.mark.parametrize("kind", [*TOGETHER.values(), *ONE_BY_ONE.values()])
@pytest.mark.parametrize("clips", [1, STEPS])
def test_any_number_of_clips_will_do(kind, clips):
    """One, and as many as steps: then an axis of steps may be taken for one of clips."""
    assert_gradients_of_each_clip(network(kind), clips)


@pytest.mark.parametrize("name", ["tutorial5", "learned", "gru"])
def test_ghost_clipping_gives_the_sum_of_the_clipped_gradients(name):
    model, data = own_network(name), batch(6)
    rows = alone(model, *data)
    norms = torch.stack([g.flatten(1).norm(dim=1) if g.ndim > 1 else g.abs() for g in rows]).norm(
        dim=0
    )
    bound = float(norms.median())
    ghost = GhostClippingModule(model.train(), loss_reduction="sum", strict=False)
    descend(ghost, model, *data)
    found = ghost.clip(trained(model), bound)
    torch.testing.assert_close(found.whole, norms, rtol=1e-3, atol=1e-5)
    for parameter, gradients in zip(trained(model), rows, strict=True):
        expected = torch.einsum("b,b...->...", (bound / norms).clamp(max=1), gradients)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["a number around a layer", "a weight used beside its layer"])
def test_a_module_of_ones_own_between_layers_of_ours_is_sampled_once(name):
    torch.manual_seed(0)
    model = ModelGroup(hidden=f"{FEATURES},{FEATURES}", threshold=0.3)
    kind = {**TOGETHER, **ONE_BY_ONE}[name]
    whole = SpikingNetwork(model, [kind(), nn.Linear(FEATURES, FEATURES)], (FEATURES,) * 2, CLASSES)
    own = assert_gradients_of_each_clip(whole)
    assert own.module is whole.linear[0]


def test_a_layer_that_a_chain_does_not_use_has_gradients_of_zero():
    torch.manual_seed(0)
    model = ModelGroup(hidden=f"{FEATURES}", threshold=0.3)
    whole = SpikingNetwork(model, [nn.Linear(FEATURES, FEATURES)], (FEATURES,), CLASSES)
    whole.extra = nn.Linear(2, 3)
    data = batch(5)
    expected = alone(whole, *data)
    private = wrapped(whole.train())
    descend(private, whole, *data)
    assert torch.equal(whole.extra.weight.grad_sample, torch.zeros(5, 3, 2))
    torch.testing.assert_close(
        whole.linear[0].weight.grad_sample, expected[0], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("kind", [Drawing, lambda: nn.Sequential(Dropout(0.5), Matrix())])
def test_each_view_of_a_clip_has_its_own_dropout_of_ours(kind):
    def step(mechanism: GaussianMechanism | None) -> dict:
        model = network(kind)
        train(
            model, *batch(6), sgd(1, 1.0, 1.0), batches=[[4, 0, 2, 5, 1]],
            mechanism=mechanism, noise=torch.Generator(), draws=DrawKeys.seeded(3), views=2,
        )  # fmt: skip
        return get_weights(model)

    twin, unbounded = step(None), step(GaussianMechanism(0.0, 1e6))
    for name, value in unbounded.items():
        torch.testing.assert_close(value, twin[name], rtol=1e-4, atol=2e-6)


def test_a_silent_module_waits_for_clips_that_tell_which_way_is_right():
    """Gradients of zero are the same by any way."""
    own = OwnModule(network(Tied).before[0])
    own.run(own.module, torch.zeros(4, STEPS, FEATURES), 1, False)
    assert not own._tried
    own.run(own.module, batch(4)[0], 1, False)
    assert own._tried
