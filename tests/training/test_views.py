"""Several views of a clip: one gradient, their mean, is clipped; what the views draw differs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fnl.clip_draws import DrawKeys, Draws
from fnl.randomness import Purpose
from fnl.snn.network import set_draws
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.weights import Weights, get_weights
from tests.training.small import CLASSES, FEATURES, STEPS, network, noisier, sgd

CLIPS, VIEWS = 6, 4
KEYS = DrawKeys.seeded(3)


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(CLIPS, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))
    return 2 * features, torch.arange(CLIPS) % CLASSES


def step(mechanism: GaussianMechanism | None, views: int = VIEWS, **model: object) -> Weights:
    """Return the weights after one step of SGD on all clips."""
    trained = network(**model)
    train(
        trained, *clips(), sgd(1, 1.0, 1.0), batches=[list(range(CLIPS))],
        mechanism=mechanism, noise=torch.Generator().manual_seed(0), draws=KEYS, augment=noisier,
        views=views,
    )  # fmt: skip
    return get_weights(trained)


def by_hand(clip_norm: float, **model: object) -> Weights:
    """Return the same by autograd: clip by clip, view by view."""
    plain = network(**model)
    features, labels = clips()
    draws = KEYS.of(features)
    parameters = [p for p in plain.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    for clip in range(CLIPS):
        mean = [torch.zeros_like(p) for p in parameters]
        for view in range(VIEWS):
            drawn = draws.batch([clip], view)  # in step 0 view v draws as step v of one view does
            set_draws(plain, drawn)
            loss = F.cross_entropy(plain(noisier(features[[clip]], drawn)), labels[[clip]])
            found = torch.autograd.grad(loss, parameters)
            mean = [part + one / VIEWS for part, one in zip(mean, found, strict=True)]
        norm = torch.cat([part.flatten() for part in mean]).norm()
        scale = min(1.0, clip_norm / float(norm))
        total = [whole + scale * part for whole, part in zip(total, mean, strict=True)]
    with torch.no_grad():
        for parameter, whole in zip(parameters, total, strict=True):
            parameter.sub_(whole / CLIPS)
    return get_weights(plain)


def assert_close(one: Weights, other: Weights) -> None:
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize("method", ["per-clip", "ghost"])
@pytest.mark.parametrize(
    "model", [{}, {"dropout": 0.3}, {"network": "temporal-conv", "learn_beta": True}], ids=str
)
def test_the_mean_of_a_clip_s_views_is_clipped_as_one(method, model):
    expected = by_hand(0.5, **model)
    assert_close(step(GaussianMechanism(0.0, 0.5, clipping_method=method), **model), expected)
    one_view = step(GaussianMechanism(0.0, 0.5), views=1, **model)
    name = "readout.linear.weight"
    assert np.abs(one_view[name] - expected[name]).max() > 1e-4


def test_without_a_bound_it_is_the_step_of_the_twin():
    assert_close(step(GaussianMechanism(0.0, 1e6)), step(None))


@pytest.mark.parametrize("clipping", ["per-layer", "automatic", "adaptive"])
def test_every_way_of_clipping_takes_views(clipping):
    both = [
        step(GaussianMechanism(0.0, 0.5, clipping=clipping, clipping_method=method))
        for method in ("per-clip", "ghost")
    ]
    assert_close(*both)


def test_a_clip_whose_gradient_is_undefined_in_one_view_counts_nothing():
    def broken(features: torch.Tensor, draws: Draws) -> torch.Tensor:
        changed = noisier(features, draws)
        changed[CLIPS] = torch.nan  # the first clip's second view
        return changed

    found = []
    for batch, augment in ((range(CLIPS), broken), (range(1, CLIPS), noisier)):
        trained = network(normalisation="none")
        train(
            trained, *clips(), sgd(1, 1.0, 1.0), batches=[list(batch)],
            mechanism=GaussianMechanism(0.0, 0.5), noise=torch.Generator(), draws=KEYS,
            augment=augment, views=2,
        )  # fmt: skip
        found.append(get_weights(trained))
    assert_close(*found)


def test_views_draw_each_for_itself_and_one_view_as_ever():
    features, _ = clips()
    draws = KEYS.of(features)
    rows = [4, 1]
    views = draws.batch(rows, 5, 3).uniform(Purpose.DROPOUT, 0, (7,)).reshape(3, 2, 7)
    for view in range(3):
        alone = draws.batch(rows, 15 + view).uniform(Purpose.DROPOUT, 0, (7,))
        assert torch.equal(views[view], alone)
    assert len(views.unique()) == views.numel()


def test_views_without_keys_are_refused():
    with pytest.raises(ValueError, match="keys of what clips draw"):
        train(
            network(), *clips(), sgd(1, 1.0, 1.0), batches=[[0]], views=2,
        )  # fmt: skip
