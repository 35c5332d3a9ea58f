"""Per-clip gradients of modules that users write: those of each clip alone, whatever is inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from descending import trained, wrapped
from torch import Tensor, nn

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.dropout import Dropout
from fnl.snn.hidden_state import HiddenState
from fnl.snn.network import SpikingNetwork, set_draws
from fnl.training.cross_entropy import cross_entropy
from fnl.training.dp_sgd import GaussianMechanism, train
from fnl.training.per_clip.ghost import GhostClippingModule
from fnl.training.per_clip.own_modules import OwnModule
from fnl.training.plan import TrainingPlan
from fnl.weights import get_weights
from tests import own_networks
from tests.own_networks import OverTime

STEPS, FEATURES, CLASSES = 7, 12, 4


class Gain(nn.Module):
    """A parameter of its own around any layer."""

    def __init__(self, layer: nn.Module, *shape: int) -> None:
        super().__init__()
        self.layer, self.gain = layer, nn.Parameter(1 + torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gain


class StepsFirst(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


class Flattened(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Tied(nn.Module):
    """A weight that is used by its layer, and transposed beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.into(x)), self.into.weight.t())


class Shared(nn.Module):
    """Two layers with one weight, one of which has a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


class Matrix(nn.Module):
    """A weight without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES, FEATURES))
        self.frozen = nn.Parameter(torch.randn(FEATURES), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.frozen


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(FEATURES, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Embedded(nn.Module):
    """Loudest feature -> a row, and a row a step."""

    def __init__(self) -> None:
        super().__init__()
        self.loudest = nn.Embedding(FEATURES, FEATURES)
        self.step = nn.Embedding(STEPS, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.loudest(x.argmax(2)) + self.step(torch.arange(x.shape[1]))


class Cell(nn.Module):
    """A trained cell that keeps its membrane in an attribute, and forgets to reset it."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(FEATURES))
        self.membrane: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for step in x.unbind(1):
            before = torch.zeros_like(step) if self.membrane is None else self.membrane
            self.membrane = self.decay * before[: len(step)] + step
            out.append(torch.tanh(self.membrane))
        return torch.stack(out, 1)


class Counting(nn.Module):
    """Changes a buffer, a list and a number in its forward pass, and uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(1))
        self.calls: list[int] = []
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.calls.append(1)
        self.count += 1
        return x * self.scale * self.seen * len(self.calls) * self.count


class Idle(nn.Module):
    """A layer that is never used, beside one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(FEATURES, FEATURES), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Decaying(nn.Module):
    """snnTorch's surrogate, which no functional transform takes, beside a trained decay."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.fire = nn.Parameter(torch.tensor(0.7)), snn.surrogate.fast_sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        membrane, out = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            membrane = self.decay * membrane + step
            out.append(self.fire(membrane - 1))
        return torch.stack(out, 1)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, FEATURES, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Delays(nn.Module):
    """A trained delay a feature, between two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = nn.Parameter(3 * torch.rand(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(STEPS, dtype=x.dtype)[:, None, None]
        taps = F.relu(1 - (steps - torch.arange(STEPS)[None, :, None] - self.delay).abs())
        return torch.einsum("tsf,bsf->btf", taps, x)


class Drawing(nn.Module):
    """Our dropout, whose masks are the clips', in a module that runs them one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.tied, self.dropout = Tied(), Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.dropout(x))


TOGETHER: dict[str, Callable[[], nn.Module]] = {
    "a number around a layer": lambda: Gain(nn.Linear(FEATURES, FEATURES)),
    "a row around a layer": lambda: Gain(nn.Linear(FEATURES, FEATURES), FEATURES),
    "a number around a convolution": lambda: Gain(OverTime(nn.Conv1d(FEATURES, FEATURES, 1))),
    "nested": lambda: Gain(Gain(nn.Sequential(nn.Linear(FEATURES, FEATURES), Matrix())), FEATURES),
    "a weight without a layer": Matrix,
    "two layers with one weight": Shared,
    "group normalisation": lambda: OverTime(nn.GroupNorm(3, FEATURES)),
    "instance normalisation": lambda: OverTime(nn.InstanceNorm1d(FEATURES, affine=True)),
    "a cell that keeps its membrane": Cell,
    "buffers, lists and numbers that change": Counting,
    "a layer that is never used": Idle,
    "a surrogate of snnTorch's": Decaying,
    "steps before clips in a linear layer": lambda: StepsFirst(nn.Linear(FEATURES, FEATURES)),
}
ONE_BY_ONE: dict[str, Callable[[], nn.Module]] = {
    "a weight used beside its layer": Tied,
    "multi-head attention": Attention,
    "embeddings": Embedded,
    "steps before clips": lambda: StepsFirst(nn.LayerNorm(FEATURES)),
    "clips and steps on one axis": lambda: Flattened(nn.Linear(FEATURES, FEATURES)),
    "an LSTM": Lstm,
    "trained delays": Delays,
    "dropout of ours": Drawing,
}


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
        descent(given[0], lambda scores, given=given: cross_entropy(scores, given[1]))
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
            model, *batch(6), TrainingPlan(1, 1.0, "sgd", 1.0), batches=[[4, 0, 2, 5, 1]],
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
