"""All clips of a speaker are one unit: drawn, averaged and clipped as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fnl.clip_draws import DrawKeys
from fnl.privacy.rate_release import release
from fnl.randomness import Purpose
from fnl.snn.network import set_draws
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.units import Units
from fnl.weights import Weights, get_weights
from tests.training.small import CLASSES, FEATURES, STEPS, network, noisier, sgd

KEYS = DrawKeys.seeded(3)
SPEAKERS = np.array(["ann", "bob", "ann", "cy", *["bob"] * 16, "dee"])
"""One speaker with two clips, one with 17, and two with one."""
SHARED = {"dropout": 0.3, "network": "temporal-conv", "learn_beta": True}


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = 2 * torch.randn(len(SPEAKERS), STEPS, FEATURES, generator=generator)
    features[SPEAKERS == "bob"] += 3  # alike, so that their gradients do not cancel
    return features, torch.arange(len(SPEAKERS)) % CLASSES


def step(
    mechanism: GaussianMechanism | None,
    *,
    drawn: tuple[int, ...] = (0, 1, 2, 3),
    units: Units | None = None,
    given: tuple[torch.Tensor, torch.Tensor] | None = None,
    **model: object,
) -> Weights:
    """Return what one step of SGD on units moves the weights by, times their number."""
    trained, units = network(**model), units or Units.by_speaker(SPEAKERS)
    before = get_weights(trained)
    train(
        trained, *(given or clips()), sgd(1, 1.0, 1.0), batches=[list(drawn)],
        mechanism=mechanism, noise=torch.Generator().manual_seed(0), draws=KEYS, augment=noisier,
        units=units,
    )  # fmt: skip
    after = get_weights(trained)
    return {name: units.count * (before[name] - after[name]) for name in before}


def by_hand(clip_norm: float, most: int = 0, **model: object) -> Weights:
    """Return the same by autograd: speaker by speaker, clip by clip."""
    plain = network(**model)
    features, labels = clips()
    draws = KEYS.of(features)
    named = {n: p for n, p in plain.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    for speaker in ("ann", "bob", "cy", "dee"):
        rows = np.flatnonzero(speaker == SPEAKERS).tolist()
        if most:
            order = [
                float(draws.batch([row], 0).uniform(Purpose.CLIPS_OF_SPEAKER, 0, (1,)))
                for row in rows
            ]
            rows = [rows[place] for place in np.argsort(order)[:most]]
        mean = [torch.zeros_like(p) for p in named.values()]
        for row in rows:
            drawn = draws.batch([row], 0)
            set_draws(plain, drawn)
            loss = F.cross_entropy(plain(noisier(features[[row]], drawn)), labels[[row]])
            found = torch.autograd.grad(loss, list(named.values()))
            mean = [part + one / len(rows) for part, one in zip(mean, found, strict=True)]
        norm = torch.cat([part.flatten() for part in mean]).norm()
        scale = min(1.0, clip_norm / float(norm))
        for name, part in zip(named, mean, strict=True):
            total[name] += scale * part
    return {name: value.detach().numpy() for name, value in total.items()}


def length(one: Weights, other: Weights) -> float:
    return float(np.sqrt(sum(((one[n] - other[n]).astype(float) ** 2).sum() for n in one)))


def assert_close(one: Weights, other: Weights, atol: float = 1e-5) -> None:
    for name, value in other.items():
        np.testing.assert_allclose(one[name], value, atol=atol, err_msg=name)


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize("most", [0, 3])
@pytest.mark.parametrize("model", [{}, SHARED], ids=str)
def test_the_mean_of_a_speaker_s_clips_is_clipped_as_one(method, most, model):
    units = Units.by_speaker(SPEAKERS, most)
    mechanism = GaussianMechanism(0.0, 0.5, clipping_method=method)
    expected = by_hand(0.5, most, **model)
    assert_close(step(mechanism, units=units, **model), expected)
    assert length(step(mechanism, units=Units(None, len(SPEAKERS)), **model), expected) > 0.1


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize("clipping", ["flat", "per-layer", "automatic", "adaptive"])
def test_a_speaker_with_seventeen_clips_moves_the_sum_by_no_more_than_the_bound(method, clipping):
    mechanism = GaussianMechanism(0.0, 0.1, clipping=clipping, clipping_method=method)
    moved = length(step(mechanism), step(mechanism, drawn=(0, 2, 3)))
    assert 0.05 < moved <= 0.1 * (1 + 1e-3)
    if clipping == "flat":  # where each clip counts, the same speaker moves it by several bounds
        alone, others = (
            Units(None, len(SPEAKERS)),
            tuple(np.flatnonzero(SPEAKERS != "bob").tolist()),
        )
        everyone = step(mechanism, units=alone, drawn=tuple(range(len(SPEAKERS))))
        assert length(everyone, step(mechanism, units=alone, drawn=others)) > 0.4


@pytest.mark.parametrize("most", [0, 3])
def test_without_a_bound_it_is_the_step_of_the_twin(most):
    units = Units.by_speaker(SPEAKERS, most)
    assert_close(step(GaussianMechanism(0.0, 1e6), units=units), step(None, units=units))


def test_a_speaker_with_an_undefined_clip_counts_nothing_and_disturbs_nobody():
    features, labels = clips()
    features[5] = torch.nan  # of bob
    mechanism = GaussianMechanism(0.0, 0.5)
    broken = step(mechanism, given=(features, labels), normalisation="none")
    assert_close(broken, step(mechanism, drawn=(0, 2, 3), normalisation="none"))


def test_which_clips_a_speaker_gives_depends_on_nobody_else_and_changes():
    features, _ = clips()
    units, draws = Units.by_speaker(SPEAKERS, 3), KEYS.of(features)
    rows, sizes = units.drawn([0, 1, 3], draws, 4)
    assert sizes is not None
    assert sizes.tolist() == [2, 3, 1]
    assert units.drawn([1], draws, 4)[0] == rows[2:5] == sorted(rows[2:5])
    kept, others = units.without(0)
    alone = others.drawn([0], KEYS.of(features[kept]), 4)[0]
    assert [kept[row] for row in alone] == rows[2:5]
    times = np.zeros(len(SPEAKERS))
    for number in range(600):
        times[units.drawn([1], draws, number)[0]] += 1
    bob = times[SPEAKERS == "bob"]
    assert times.sum() == bob.sum() == 1800
    assert np.abs(bob / 600 - 3 / 17).max() < 4.5 * np.sqrt(3 / 17 * 14 / 17 / 600)
    with pytest.raises(ValueError, match="keys"):
        units.drawn([1], None, 0)


def test_speakers_are_drawn_at_the_sampling_rate_and_clips_together():
    seen: list[list[int]] = []

    class Spy(Units):
        def drawn(self, units, draws, step):
            seen.append(list(units))
            return super().drawn(units, draws, step)

    groups = Units.by_speaker(SPEAKERS).groups
    train(
        network(), *clips(), sgd(400, 0.4, 0.0),
        batches=torch.Generator().manual_seed(0), units=Spy(groups, len(SPEAKERS)),
    )  # fmt: skip
    drawn = np.zeros((400, 4))
    for number, units in enumerate(seen):  # empty mini-batches are not asked
        drawn[number, units] = 1
    assert np.abs(drawn.mean(0) - 0.4).max() < 4.5 * np.sqrt(0.24 / 400)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.2


def test_released_rates_are_of_speakers_whose_means_are_clipped():
    values = np.random.default_rng(0).random((len(SPEAKERS), 4))
    units = Units.by_speaker(SPEAKERS)

    def summed(rows: np.ndarray, of: Units) -> np.ndarray:
        return 4 * release(
            of.means(rows), clip_norm=0.3, noise_multiplier=0.0, num_clips=4,
            generator=np.random.default_rng(),
        )  # fmt: skip

    kept, others = units.without(1)
    moved = summed(values, units) - summed(values[kept], others)
    mean = values[SPEAKERS == "bob"].mean(0)
    assert moved == pytest.approx(0.3 * mean / np.linalg.norm(mean))
