"""Our sums of written-out gradients against Opacus' `DPOptimizer`: its noise, and its sums."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from opacus.optimizers import DPOptimizer
from rounding import assert_within_ulps
from torch import Tensor, nn

from fnl.errors import ConfigError
from fnl.privacy.noise import SecureNoise, use_secure_noise
from fnl.training.clipping import METHODS, Bound
from fnl.training.per_clip.flat_optimizer import FlatOptimizer


def parameters(
    seed: int,
    clips: int,
    shapes: Sequence[tuple[int, ...]] = ((33, 17), (33,), ()),
    *,
    change: Callable[[Tensor], Tensor] = lambda sample: sample,
) -> list[nn.Parameter]:
    """Return a matrix, a vector and a number with gradients of each clip, changed by `change`."""
    generator = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in made:
        sample = torch.randn(clips, *parameter.shape, generator=generator)
        setattr(parameter, "grad_sample", change(sample))  # noqa: B010 - Opacus' own attribute
    return made


def of_four(made: list[nn.Parameter], noise: float = 0.0) -> FlatOptimizer:
    return FlatOptimizer(
        torch.optim.SGD(made, lr=1.0), noise_multiplier=noise, max_grad_norm=0.5,
        expected_batch_size=4,
    )  # fmt: skip


def stepped(
    kind: type[DPOptimizer], clips: int, *, passes: int = 1, noise: float = 0.7, **options: Any
) -> list[Tensor]:
    made = parameters(0, clips, **options)
    optimizer = kind(
        torch.optim.SGD(made, lr=0.1), noise_multiplier=noise, max_grad_norm=5.0,
        expected_batch_size=6, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    for number in range(1, passes):  # as BatchMemoryManager does
        optimizer.signal_skip_step(do_skip=True)
        optimizer.step()
        optimizer.zero_grad()
        for parameter, other in zip(made, parameters(number, clips, **options), strict=True):
            setattr(parameter, "grad_sample", other.grad_sample)  # noqa: B010 - as above
    optimizer.signal_skip_step(do_skip=False)
    optimizer.step()
    return [parameter.detach() for parameter in made]


@pytest.mark.parametrize("clips", [0, 1, 7, 64])
@pytest.mark.parametrize("passes", [1, 3])
def test_steps_are_those_of_opacus_up_to_the_order_of_additions(clips, passes):
    mine, theirs = (stepped(kind, clips, passes=passes) for kind in (FlatOptimizer, DPOptimizer))
    terms = stepped(DPOptimizer, clips, passes=passes, noise=0.0, change=torch.abs)
    for a, b, magnitude in zip(mine, theirs, terms, strict=True):
        assert bool((a != 0).all())
        # √192 clips are added in an order of the processor's choice; a norm has √595 squares.
        # The noise is at most the step and the sum of the clips' magnitudes.
        assert_within_ulps(a, b, 32, of=b.abs() + 2 * magnitude.abs())


@pytest.mark.parametrize(
    "shapes",
    [
        [(40, 128), (128,), (128, 128), (128,), (10, 128), (10,)],
        [(16,), (10,), (32, 3), (48,), (16,)],
        [(7,), (16,), (16,), (17,), (4, 4)],
        [(1,), (), (15,)],
    ],
)
def test_noise_drawn_for_several_parameters_at_once_has_the_bits_of_opacus(shapes):
    mine, theirs = (  # sums of zeros do not round: a step is the noise
        stepped(kind, 5, shapes=shapes, change=torch.zeros_like)
        for kind in (FlatOptimizer, DPOptimizer)
    )
    for a, b in zip(mine, theirs, strict=True):
        assert bool((a != 0).all())
        assert torch.equal(a, b)


def test_norms_are_never_those_of_other_gradients():
    made = parameters(0, 4)
    optimizer = FlatOptimizer(
        torch.optim.SGD(made, lr=1.0), noise_multiplier=0.0, max_grad_norm=0.5,
        expected_batch_size=1, loss_reduction="sum",
    )  # fmt: skip
    before = optimizer.norms().parts
    optimizer.zero_grad()  # a step that was not taken
    for parameter, other in zip(made, parameters(1, 4), strict=True):
        sample = 100 * other.grad_sample
        setattr(parameter, "grad_sample", sample)  # noqa: B010 - as above
    optimizer.step()
    assert not torch.equal(before, optimizer.norms().parts)
    whole = torch.cat([p.detach().flatten() for p in made]).norm()
    assert whole <= 4 * 0.5 * (1 + 1e-5)  # four gradients of at most the bound


def test_a_gradient_is_used_once():
    made = parameters(0, 4)
    optimizer = of_four(made)
    optimizer.step()
    with pytest.raises(ValueError, match="haven't been cleared"):
        optimizer.step()


def test_a_clip_that_cannot_be_bounded_leaves_the_norms_of_the_others():
    network = nn.Linear(3, 2)
    training = METHODS["per-clip"](
        network, torch.optim.SGD(network.parameters(), lr=1.0), Bound(0.5, "flat"),
        noise_multiplier=0.0, expected_batch_size=1, loss_reduction="sum",
    )  # fmt: skip
    clips = torch.randn(3, 3)
    clips[1] = torch.inf
    before = network.weight.detach().clone()
    training.module.descent()(clips, lambda output: (0.0, torch.ones_like(output)))
    norms = training.clip()
    training.optimizer.step()
    assert not norms.parts[1].isfinite().all()
    moved = (network.weight.detach() - before).norm()
    assert 0 < moved <= 2 * 0.5 * (1 + 1e-5)


def test_a_gradient_that_a_hook_replaces_is_the_one_stepped():
    made = parameters(0, 4)
    optimizer = of_four(made, noise=0.3)

    def replace(stepped: DPOptimizer) -> None:
        stepped.params[1].grad = torch.full((33,), 2.0)

    optimizer.attach_step_hook(replace)
    optimizer.step()
    assert torch.equal(made[1].detach(), torch.full((33,), -2.0))
    assert bool((made[0] != 0).all())


def test_noise_of_the_operating_system_is_added_to_the_sums():
    made = parameters(0, 4)
    optimizer = FlatOptimizer(
        torch.optim.SGD(made, lr=1.0), noise_multiplier=1e-4, max_grad_norm=5.0,
        expected_batch_size=1,
    )  # fmt: skip
    use_secure_noise(optimizer, SecureNoise())
    optimizer.clip_and_accumulate()
    sums = [parameter.summed_grad.clone() for parameter in made]
    optimizer.add_noise()
    optimizer.scale_grad()
    optimizer.original_optimizer.step()
    for parameter, total in zip(made, sums, strict=True):
        noise = (parameter.detach() + total).abs().max()
        assert 0 < noise < 6 * 5e-4


def test_secure_mode_of_opacus_is_refused_and_not_ignored():
    with pytest.raises(ConfigError, match="call use_secure_noise instead"):
        FlatOptimizer(
            torch.optim.SGD(parameters(0, 4), lr=1.0), noise_multiplier=1.0, max_grad_norm=1.0,
            expected_batch_size=4, secure_mode=True,
        )  # fmt: skip
