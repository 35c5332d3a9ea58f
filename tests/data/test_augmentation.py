"""Augmentation: what it moves, by how much, and that a clip is moved by its own draws alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fnl.clip_draws import BatchDraws, DrawKeys
from fnl.data.augmentation import Augmentation

STILL = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0)
STEPS, BINS = 50, 40


def draws(clips: int = 64, seed: int = 0, step: int = 0) -> BatchDraws:
    """Return what so many different clips draw."""
    return DrawKeys.seeded(seed).of(torch.arange(clips)[:, None]).batch(slice(None), step)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    smooth = torch.randn(64, STEPS, BINS, generator=generator).cumsum(1).cumsum(2) / 10
    return smooth - smooth.mean(1, keepdim=True)


def peak(features: Tensor) -> np.ndarray:
    """Return the (step, bin) of each clip's centre of mass."""
    mass = features.clamp_min(0)
    mass = mass / mass.sum((1, 2), keepdim=True)
    steps = (mass.sum(2) * torch.arange(STEPS)).sum(1)
    bins = (mass.sum(1) * torch.arange(BINS)).sum(1)
    return torch.stack([steps, bins], 1).numpy()


def bump() -> Tensor:
    """One smooth bump at (24.5, 19.5), the centre of a clip, 400 times."""
    step, band = torch.meshgrid(torch.arange(STEPS), torch.arange(BINS), indexing="ij")
    one = 5 * torch.exp(-((step - 24.5) ** 2 + (band - 19.5) ** 2) / 18)
    return one.expand(400, STEPS, BINS)


def test_nothing_asked_for_is_nothing_done(features):
    torch.testing.assert_close(STILL(features, draws()), features, rtol=1e-4, atol=1e-4)


def test_shifts_stay_in_their_range_and_fill_it():
    moved = replace(STILL, time_shift=0.08, frequency_shift=1.0)._warped(bump(), draws(400))
    offset = peak(moved) - [24.5, 19.5]
    for axis, largest in ((0, 0.08 * STEPS), (1, 1.0)):
        assert abs(offset[:, axis]).max() <= largest + 0.05
        assert offset[:, axis].max() > 0.9 * largest
        assert offset[:, axis].min() < -0.9 * largest
    assert abs(np.corrcoef(offset.T)[0, 1]) < 0.15


def test_scaling_keeps_the_middle_and_moves_the_rest():
    warped = replace(STILL, time_scale=0.08)._warped(bump(), draws(400))
    np.testing.assert_allclose(peak(warped), np.tile([24.5, 19.5], (400, 1)), atol=0.05)
    area = warped.sum((1, 2)) / bump().sum((1, 2))
    assert area.min() == pytest.approx(1 / 1.08, abs=0.01)
    assert area.max() == pytest.approx(1 / 0.92, abs=0.01)


def test_noise_fills_valleys_and_leaves_peaks(features):
    noisy = replace(STILL, noise_probability=1.0, noise_db=(10.0, 10.0))._with_noise(
        features, draws()
    )
    raised = noisy - features
    assert (raised >= -1e-5).all()
    loud = features > features.amax(1, keepdim=True) - 0.2
    quiet = features < features.amin(1, keepdim=True) + 0.2
    assert raised[loud].mean() < 0.2 * raised[quiet].mean()
    # mean noise power against mean clip power: 10 dB below
    power = torch.exp(2 * features.double())
    added = torch.exp(2 * noisy.double()) - power
    ratio_db = 10 * torch.log10(power.mean(1) / added.mean(1))
    assert ratio_db.mean() == pytest.approx(10.0, abs=0.3)


def test_noise_hits_the_share_it_says(features):
    many = features.repeat(20, 1, 1)
    noisy = replace(STILL, noise_probability=0.4)._with_noise(many, draws(len(many)))
    hit = (noisy != many).any(2).any(1).double().mean()
    assert hit == pytest.approx(0.4, abs=0.05)


def test_the_result_has_no_mean_over_time(features):
    out = Augmentation()(features, draws())
    assert out.shape == features.shape
    torch.testing.assert_close(out.mean(1), torch.zeros(64, BINS), rtol=0, atol=1e-4)


def test_it_is_drawn_from_its_keys_alone(features):
    torch.manual_seed(1)
    one = Augmentation()(features, draws(seed=5))
    torch.manual_seed(2)
    assert torch.equal(Augmentation()(features, draws(seed=5)), one)
    assert not torch.equal(Augmentation()(features, draws(seed=6)), one)
    assert not torch.equal(Augmentation()(features, draws(seed=5, step=1)), one)


def test_a_clip_is_moved_alike_whatever_else_is_in_the_mini_batch(features):
    clips = DrawKeys.seeded(0).of(features)
    together = Augmentation()(features, clips.batch(slice(None), 3))
    rows = [40, 3, 17]
    assert torch.equal(Augmentation()(features[rows], clips.batch(rows, 3)), together[rows])
