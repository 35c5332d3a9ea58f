"""The whole network against the same network written as a snnTorch loop over time."""

import copy
import itertools

import pytest
import snntorch
import torch
import torch.nn.functional as F
from rounding import make_products_exact, on_grid
from snntorch import surrogate
from torch import Tensor, nn

from fnl.config import ModelGroup
from fnl.randomness import Purpose, torch_stream
from fnl.snn.network import SpikingNetwork, build_network, initialise

CLIPS, STEPS, FEATURES, CLASSES = 16, 40, 12, 5

SPIKE_GRADIENTS = {
    "fast-sigmoid": surrogate.fast_sigmoid(slope=10.0),
    "atan": surrogate.atan(alpha=10.0),
    "sigmoid": surrogate.sigmoid(slope=10.0),
    "triangular": surrogate.triangular(threshold=10.0),
}


class Loop(nn.Module):
    """Linear → LayerNorm → Leaky, a step of time after the other, as snnTorch's tutorials do."""

    def __init__(self, model: ModelGroup) -> None:
        super().__init__()
        sizes = [FEATURES, *model.hidden_sizes]
        normalised = model.normalisation == "layer"
        self.linear, self.norm, self.leaky = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            self.linear.append(nn.Linear(fan_in, fan_out, bias=not normalised))
            self.norm.append(nn.LayerNorm(fan_out) if normalised else nn.Identity())
            self.leaky.append(
                snntorch.Leaky(
                    beta=model.beta, threshold=model.threshold,
                    spike_grad=SPIKE_GRADIENTS[model.surrogate], reset_mechanism="subtract",
                )
            )  # fmt: skip
        self.last = nn.Linear(sizes[-1], CLASSES)
        self.integrator = snntorch.Leaky(beta=model.beta, reset_mechanism="none")

    def forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        membranes = [leaky.init_leaky() for leaky in self.leaky]
        readout = self.integrator.init_leaky()
        logits: list[Tensor] = []
        counts: list[Tensor | float] = [0.0] * len(membranes)
        for step in range(inputs.shape[1]):
            signal = inputs[:, step]
            for n, leaky in enumerate(self.leaky):
                current = self.norm[n](self.linear[n](signal))
                signal, membranes[n] = leaky(current, membranes[n])
                counts[n] = counts[n] + signal.detach()
            _, readout = self.integrator(self.last(signal), readout)
            logits.append(readout)
        return torch.stack(logits).mean(0), [torch.as_tensor(count) for count in counts]

    def parameters_in_our_order(self) -> list[nn.Parameter]:
        return [*self.linear.parameters(), *self.norm.parameters(), *self.last.parameters()]


def pair(**settings: object) -> tuple[SpikingNetwork, Loop]:
    """Return both with the same weights, whose products with inputs and spikes are exact sums."""
    model = ModelGroup.model_validate({"hidden": "32,24", **settings})
    ours, loop = build_network(model, FEATURES, CLASSES), Loop(model)
    initialise(ours, 0)
    make_products_exact(ours)
    # weights are copied one by one: no name of ours is relied on but the documented attributes
    for part, other in ((ours.linear, loop.linear), (ours.norm, loop.norm)):
        other.load_state_dict(part.state_dict())
    loop.last.load_state_dict(ours.readout.linear.state_dict())
    return ours, loop


@pytest.fixture
def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return on_grid(2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator))


VARIANTS = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalisation": "none", "threshold": 0.4},
        {"hidden": "20"},
        {"hidden": "16,8,8", "beta": 0.5},
        {"beta": 0.99, "threshold": 2.5},
        {"surrogate": "atan"},
        {"surrogate": "sigmoid"},
        {"surrogate": "triangular"},
    ],
    ids=str,
)


@VARIANTS
def test_spikes_and_logits_are_those_of_the_loop(settings, inputs):
    ours, loop = pair(**settings)
    trace = ours.trace(inputs)
    logits, counts = trace.logits, trace.counts
    expected_logits, expected_counts = loop(inputs)
    assert len(counts) == len(expected_counts)
    for count, expected in zip(counts, expected_counts, strict=True):
        assert 0 < expected.mean() < STEPS
        assert torch.equal(count, expected)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(inputs), logits)


@VARIANTS
def test_gradients_are_those_of_the_loop(settings, inputs):
    ours, loop = pair(**settings)
    labels = torch.arange(CLIPS) % CLASSES
    F.cross_entropy(ours(inputs), labels).backward()
    F.cross_entropy(loop(inputs)[0], labels).backward()
    trained = [p for p in ours.parameters() if p.requires_grad]
    expected = loop.parameters_in_our_order()
    assert len(trained) == len(expected)
    for ours_, theirs in zip(trained, expected, strict=True):
        assert ours_.grad is not None
        assert theirs.grad is not None
        scale = float(theirs.grad.abs().max())
        assert scale > 0
        torch.testing.assert_close(ours_.grad, theirs.grad, rtol=1e-4, atol=1e-4 * scale)


def test_spikes_do_not_look_ahead(inputs):
    ours, _ = pair()
    whole = ours.trace(inputs[:, :20]).counts
    changed = inputs.clone()
    changed[:, 20:] = 0
    signal, other = inputs, changed
    for linear, norm, neuron in zip(ours.linear, ours.norm, ours.neuron, strict=True):
        signal, other = neuron(norm(linear(signal))), neuron(norm(linear(other)))
        assert torch.equal(signal[:, :20], other[:, :20])
    assert torch.equal(other[:, :20].sum(1), whole[-1])


def test_synapses_are_the_matrices_in_the_order_of_the_signal():
    ours, loop = pair()
    shapes = [tuple(weight.shape) for weight in ours.synapses()]
    assert shapes == [(32, FEATURES), (24, 32), (CLASSES, 24)]
    for ours_, theirs in zip(ours.synapses(), [*loop.linear, loop.last], strict=True):
        assert torch.equal(ours_, theirs.weight)


def test_initial_weights_come_from_the_runs_own_stream():
    model = ModelGroup(hidden="200,100")
    one, two, other = (build_network(model, FEATURES, CLASSES) for _ in range(3))
    initialise(one, 3)
    state = torch.get_rng_state()
    torch.manual_seed(99)
    initialise(two, 3)
    initialise(other, 4)
    torch.set_rng_state(state)
    for (name, a), b, c in zip(
        one.named_parameters(), two.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        assert torch.equal(a, c) == (a.ndim < 2), name
    first = next(iter(one.parameters())).detach()
    expected = torch.empty_like(first).uniform_(
        -(FEATURES**-0.5), FEATURES**-0.5, generator=torch_stream(3, Purpose.INITIAL_WEIGHTS)
    )
    assert torch.equal(first, expected)


def test_initial_weights_fill_the_range_they_say():
    network = build_network(ModelGroup(hidden="200,100"), FEATURES, CLASSES)
    initialise(network, 0)
    for weight in network.synapses():
        bound = weight.shape[1] ** -0.5
        assert 0.95 * bound < weight.abs().max() <= bound
        assert abs(weight.mean()) < 5 * bound / (3 * weight.numel()) ** 0.5
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.2)
    assert all((norm.weight == 0.5).all() and (norm.bias == 0).all() for norm in network.norm)
    assert (network.readout.linear.bias == 0).all()


def test_a_copy_computes_the_same(inputs):
    ours, _ = pair()
    assert torch.equal(copy.deepcopy(ours)(inputs), ours(inputs))
