"""Parameters stepped as one vector, against PyTorch's optimizers on each of them."""

from functools import partial

import pytest
import torch
from rounding import assert_within_ulps
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.training.flat_parameters import FlatParameters, step_as_one

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=0.1),
}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (5,), (), (2, 3, 4)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def grouped(made: list[nn.Parameter]) -> list[dict[str, object]]:
    return [{"params": made[:2]}, {"params": made[2:], "lr": 0.01}]


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_steps_are_those_of_single_parameters(kind, groups):
    single, joined = parameters(), parameters()
    one_by_one = OPTIMIZERS[kind](grouped(single) if groups else single)
    as_one = OPTIMIZERS[kind](grouped(joined) if groups else joined)
    flat = step_as_one(as_one)
    vectors = [vector for group in as_one.param_groups for vector in group["params"]]
    assert len(vectors) == (2 if groups else 1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        gradient = torch.randn(flat.values.shape, generator=generator)
        for parameter, part in zip(single, flat.parts(gradient), strict=True):
            parameter.grad = part.clone()
        sizes = [vector.numel() for vector in vectors]
        for vector, part in zip(vectors, gradient.split(sizes), strict=True):
            vector.grad = part
        one_by_one.step()
        as_one.step()
    for mine, other, start in zip(joined, single, parameters(), strict=True):
        # Each element has the operations of a step in one order; whether a product and a sum round
        # once or twice may depend on its place in a vector of the processor. Four steps of 0.1.
        assert_within_ulps(mine, other, 16, of=other.abs() + start.abs() + 1)
        assert not torch.equal(mine, start)


def test_parameters_stay_the_same_objects_of_the_same_values():
    made, expected = parameters(), [p.detach().clone() for p in parameters()]
    flat = FlatParameters(made)
    for parameter, kept, value in zip(made, flat.parameters, expected, strict=True):
        assert parameter is kept
        assert torch.equal(parameter, value)
    with torch.no_grad():
        flat.values.zero_()
    assert all(not bool(parameter.any()) for parameter in made)


def mixed() -> list[Tensor]:
    return [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float64))]


def test_parameters_of_two_dtypes_are_refused():
    with pytest.raises(ConfigError, match=r"one dtype and device, got torch\.float32 on cpu, "):
        step_as_one(torch.optim.SGD(mixed(), lr=0.1))


def test_an_optimizer_that_has_stepped_is_refused():
    made = parameters()
    optimizer = torch.optim.Adam(made)
    for parameter in made:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with pytest.raises(ValueError, match="has stepped already"):
        step_as_one(optimizer)
