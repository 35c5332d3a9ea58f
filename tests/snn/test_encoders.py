"""Encoders against their definitions, clip by clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fnl.clip_draws import DrawKeys
from fnl.config import ModelGroup
from fnl.snn.encoders import Encoder, build_encoder, to_unit_interval
from fnl.snn.network import set_draws

CLIPS, STEPS, FEATURES = 6, 20, 8


def encoder(encoding: str, **settings: object) -> Encoder:
    return build_encoder(ModelGroup.model_validate({"encoding": encoding, **settings}))


def encoded(built: Encoder, features: Tensor, *, partition: int = 2, step: int = 0) -> Tensor:
    """Return the encoding of a mini-batch in one step of a client's round."""
    set_draws(built, DrawKeys.seeded(0, 1, partition).of(features).batch(slice(None), step))
    return built(features)


@pytest.fixture
def features() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(CLIPS, STEPS, FEATURES, generator=generator)


def test_each_clip_fills_the_unit_interval(features):
    mapped = to_unit_interval(features)
    for clip, other in zip(mapped, features, strict=True):
        assert (clip.min(), clip.max()) == (0, 1)
        torch.testing.assert_close(clip, (other - other.min()) / (other.max() - other.min()))
    assert torch.equal(to_unit_interval(torch.full((1, 3, 2), 7.0)), torch.zeros(1, 3, 2))


def test_direct_leaves_features_as_they_are(features):
    assert torch.equal(encoder("direct")(features), features)
    assert not encoder("direct").spiking


@pytest.mark.parametrize("encoding", ["rate", "delta", "latency"])
def test_codes_are_spikes(encoding, features):
    built = encoder(encoding)
    assert built.spiking
    spikes = encoded(built, features)
    assert spikes.shape == features.shape
    assert spikes.dtype == torch.float32
    assert set(spikes.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert 0 < spikes.abs().mean() < 1


@pytest.mark.parametrize("encoding", ["direct", "rate", "delta", "latency"])
def test_clips_are_encoded_by_themselves(encoding, features):
    together = encoded(encoder(encoding), features)
    for clip in range(CLIPS):
        alone = encoded(encoder(encoding), features[clip : clip + 1])[0]
        assert torch.equal(alone, together[clip])


def test_rates_are_the_features(features):
    clip, built, spikes = features[:1], encoder("rate"), []
    for step in range(4000):
        spikes.append(encoded(built, clip, step=step)[0])
    frequency = torch.stack(spikes).mean(0)
    # five standard deviations of a mean of 4,000 draws are at most 0.04
    torch.testing.assert_close(frequency, to_unit_interval(clip)[0], rtol=0, atol=0.04)


def test_rates_are_drawn_from_their_keys_alone(features):
    one, two = encoder("rate"), encoder("rate")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = encoded(one, features)
    assert torch.equal(torch.get_rng_state(), state)  # and the global one is left alone
    torch.manual_seed(2)
    assert torch.equal(encoded(two, features), first)
    assert not torch.equal(encoded(two, features, step=1), first)
    assert not torch.equal(encoded(two, features, partition=3), first)


def test_rate_without_draws_is_refused(features):
    with pytest.raises(RuntimeError, match="set_draws"):
        build_encoder(ModelGroup(encoding="rate"))(features)


def test_delta_is_the_sign_of_large_changes(features):
    spikes = encoder("delta", delta_threshold=1.5)(features)
    change = features.diff(dim=1, prepend=features[:, :1])
    assert torch.equal(spikes, change.sign() * (change.abs() >= 1.5))
    assert (spikes[:, 0] == 0).all()


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_latency_spikes_once_a_window_and_earlier_when_louder(steps, features):
    spikes = encoder("latency", latency_steps=steps)(features)
    mapped = to_unit_interval(features)
    for start in range(0, STEPS, steps):
        window = spikes[:, start : start + steps]
        assert (window.sum(1) == 1).all()
        loudness = mapped[:, start : start + steps].mean(1)
        expected = torch.round((steps - 1) * (1 - loudness)).long()
        assert torch.equal(window.argmax(1), expected)


def test_windows_must_fill_a_clip(features):
    with pytest.raises(ValueError, match="windows of 7 steps do not fill 20"):
        encoder("latency", latency_steps=7)(features)
