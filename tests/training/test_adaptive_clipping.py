"""Bounds that move and gradients that are all scaled: sensitivity, noise and what they cost."""

import copy
import math

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant
from flwr.supercore.differential_privacy import compute_adaptive_noise_params
from scipy import stats
from torch import nn

from fnl.config import ModelGroup
from fnl.privacy.ledger import Ledger
from fnl.snn.network import build_network, initialise
from fnl.training.adaptive_clipping import AdaptiveBound, SplitNoise
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from tests.training.small import sgd


def bound(start: float = 1.0, **changes: float) -> AdaptiveBound:
    options = {"quantile": 0.5, "learning_rate": 0.2, "count_noise": 0.0, "expected_batch": 100.0}
    return AdaptiveBound(start, **{**options, **changes})


@pytest.mark.parametrize(("sigma", "batch"), [(0.7, 128.0), (1.0, 400.0), (3.0, 2000.0)])
def test_noise_is_split_as_flower_splits_it(sigma, batch):
    count, gradients = compute_adaptive_noise_params(sigma, batch, None)
    assert SplitNoise.of(sigma, batch) == SplitNoise(pytest.approx(gradients), pytest.approx(count))


@pytest.mark.parametrize(("sigma", "batch"), [(0.7, 128.0), (2.0, 16.0), (30.0, 100.0)])
def test_both_releases_together_cost_what_the_ledger_books(sigma, batch):
    split = SplitNoise.of(sigma, batch)
    apart = PLDAccountant()
    apart.compose(GaussianDpEvent(split.gradients))
    apart.compose(GaussianDpEvent(split.count / 0.5))  # one clip moves the count by a half
    booked = PLDAccountant()
    booked.compose(GaussianDpEvent(sigma))
    assert apart.get_epsilon(1e-3) == pytest.approx(booked.get_epsilon(1e-3), abs=2e-3)
    assert Ledger().spend(sigma, 1.0, 1).epsilon(1e-3) >= apart.get_epsilon(1e-3) - 2e-3
    assert sigma < split.gradients < 1.16 * sigma


def test_the_bound_finds_the_quantile():
    generator, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    for quantile in (0.2, 0.5, 0.9):
        moving = bound(quantile=quantile, count_noise=5.0)
        values = []
        for step in range(400):
            norms = torch.empty(100).log_normal_(1.0, 0.5, generator=generator)
            moving.update(norms, noise)
            values += [moving.value] if step > 200 else []
        true = math.exp(1.0 + 0.5 * stats.norm.ppf(quantile))
        assert np.median(values) == pytest.approx(true, rel=0.1)


def test_one_step_is_the_formula_and_an_empty_sample_is_no_error():
    noise = torch.Generator().manual_seed(0)
    moving = bound(1.0, expected_batch=4.0)
    moving.update(torch.tensor([0.5, 1.0, 2.0]), noise)  # two under the bound: (2 - 1.5) / 4 + 1/2
    assert moving.value == pytest.approx(math.exp(-0.2 * (0.625 - 0.5)))
    before = moving.value
    moving.update(torch.zeros(0), noise)
    assert moving.value == pytest.approx(before)


def test_one_clip_moves_the_count_by_no_more_than_a_half():
    def count(norms: list[float]) -> float:
        moving = bound(1.0, expected_batch=1.0, quantile=0.5, learning_rate=1.0)
        moving.update(torch.tensor(norms), torch.Generator().manual_seed(0))
        return -math.log(moving.value)

    for extra in (0.5, 1.5):
        assert abs(count([0.2, 3.0, extra]) - count([0.2, 3.0])) == pytest.approx(0.5)


def spiking() -> nn.Module:
    network = build_network(ModelGroup(hidden="10,8"), 6, 4)
    initialise(network, 0)
    return network.double()


def clips(n: int = 12):
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(n, 9, 6, generator=generator, dtype=torch.float64), torch.arange(n) % 4


def moved(mechanism: GaussianMechanism, data=None, steps: int = 1):
    network = spiking()
    before = copy.deepcopy(network)
    summary = train(
        network, *(data or clips()), sgd(steps, 1.0, 1.0),
        batches=torch.Generator().manual_seed(0), mechanism=mechanism,
        noise=torch.Generator().manual_seed(3),
    )  # fmt: skip
    difference = [
        (new - old).detach().ravel()
        for new, old in zip(network.parameters(), before.parameters(), strict=True)
    ]
    return torch.cat(difference), summary


@pytest.mark.parametrize("clipping", ["adaptive", "automatic"])
def test_ghost_and_written_out_take_the_same_steps(clipping):
    runs = [moved(GaussianMechanism(0.0, 0.5, clipping, m), steps=4) for m in ("per-clip", "ghost")]
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=1e-6, atol=1e-9)
    assert runs[0][1].clip_norm == pytest.approx(runs[1][1].clip_norm)


def test_automatic_clipping_is_its_formula_and_no_clip_is_longer_than_the_bound():
    features, labels = clips(1)
    raw, summary = moved(GaussianMechanism(0.0, 1e9), (features, labels))
    norm = float(raw.norm())
    for clip_norm in (0.1, 7.0):
        step, scaled = moved(GaussianMechanism(0.0, clip_norm, "automatic"), (features, labels))
        torch.testing.assert_close(step, raw * clip_norm / (norm + 0.01), rtol=1e-6, atol=1e-9)
        assert float(step.norm()) < clip_norm
        assert scaled.clip_fraction is None
        assert scaled.gradient_norm_median == pytest.approx(summary.gradient_norm_median)


def test_an_adaptive_bound_starts_as_given_moves_and_carries_more_noise():
    first, summary = moved(GaussianMechanism(0.0, 0.5, "adaptive"))
    flat, _ = moved(GaussianMechanism(0.0, 0.5))
    torch.testing.assert_close(first, flat)
    # all twelve gradients are above 0.5: only the count's own noise moves it off this value
    assert summary.clip_fraction == 1.0
    assert summary.clip_norm == pytest.approx(0.5 * math.exp(0.2 * 0.5), rel=0.1)
    sigma = 2.0
    noisy, _ = moved(GaussianMechanism(sigma, 0.5, "adaptive"))
    noise = (noisy - first).numpy() * 12 / 0.5
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], len(noise))
    assert low < (noise**2).sum() / SplitNoise.of(sigma, 12.0).gradients ** 2 < high
    assert SplitNoise.of(sigma, 12.0).gradients > 1.15 * sigma


def test_quantiles_of_the_norms_are_those_of_the_gradients():
    features, labels = clips()
    norms = [
        float(
            moved(GaussianMechanism(0.0, 1e9), (features[i : i + 1], labels[i : i + 1]))[0].norm()
        )
        for i in range(12)
    ]
    summary = moved(GaussianMechanism(1.0, 0.5))[1]
    expected = np.quantile(norms, [0.1, 0.5, 0.9])
    got = (summary.gradient_norm_q10, summary.gradient_norm_median, summary.gradient_norm_q90)
    assert got == pytest.approx(tuple(expected), rel=1e-6)


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("norm", [0.0, 1e30])
def test_a_bound_never_leaves_the_range_in_which_noise_survives_rounding(start, norm):
    """A server sets the rate at which it moves: it would underflow, overflow or fail on purpose."""
    adapting, noise = bound(start, learning_rate=1e9), torch.Generator()
    for _ in range(3):
        assert 1e-6 <= adapting.update(torch.full((20,), norm), noise) <= 1e6
