"""Canaries: fair coins that nothing else tells, features like real ones, gradients far apart."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from fnl.audit.canaries import coins, draw_canaries
from fnl.audit.gradients import clip_gradients
from fnl.config import ModelGroup, TrainingGroup
from fnl.snn.network import build_network, initialise
from fnl.training.loss import TrainingLoss
from fnl.training.mechanism import GaussianMechanism

SHAPE = (50, 40, 10)


def network(hidden: str = "64"):
    built = build_network(ModelGroup(hidden=hidden), SHAPE[1], SHAPE[2])
    initialise(built, 0)
    return built


def test_coins_are_fair_and_each_clients_own():
    tossed = np.array([coins(0, client, 500) for client in range(40)])
    assert binomtest(int(tossed.sum()), tossed.size).pvalue > 1e-3
    together = np.corrcoef(tossed)[np.triu_indices(40, 1)]
    assert np.abs(together).max() < 5 / 500**0.5
    assert (tossed[0] == coins(0, 0, 500)).all()
    assert (tossed[0] != coins(1, 0, 500)).any()


def test_features_do_not_depend_on_coins_and_have_mean_zero_over_time():
    canaries = draw_canaries(0, 3, 40, SHAPE)
    assert canaries.features.shape == (40, 50, 40)
    assert canaries.features.mean(dim=1).abs().max() < 1e-6
    assert set(canaries.labels.tolist()) <= set(range(10))
    own = torch.zeros(5, 50, 40), torch.zeros(5, dtype=torch.int64)
    features, labels = canaries.joined(*own)
    assert len(labels) == 5 + canaries.included.sum()
    assert torch.equal(features[5:], canaries.features[torch.from_numpy(canaries.included)])
    assert torch.equal(labels[5:], canaries.labels[torch.from_numpy(canaries.included)])
    # correlated with nothing of the clip: its label, its spectrum
    large = draw_canaries(0, 4, 4000, (2, 3, 10))
    signs = np.where(large.included, 1.0, -1.0)
    for column in (*large.features[:, 0].numpy().T, large.labels.numpy()):
        assert abs(np.corrcoef(signs, column)[0, 1]) < 4 / 4000**0.5


def test_gradients_are_above_the_usual_bound_and_close_to_orthogonal():
    canaries = draw_canaries(0, 0, 300, SHAPE)
    gradients = clip_gradients(
        network(), canaries.features, canaries.labels, None, loss=TrainingLoss()
    )
    norms = np.linalg.norm(gradients, axis=1)
    assert norms.min() > 5.0  # privacy.clip-norm
    unit = gradients / norms[:, None]
    cosines = (unit @ unit.T)[np.triu_indices(300, 1)]
    assert np.sqrt(np.mean(cosines**2)) < 0.15
    # telling one from all the others costs less than twice the noise
    assert np.sqrt(np.diag(np.linalg.inv(unit @ unit.T))).max() < 2.0


def one_at_a_time(net, features, labels, smoothing: float) -> list[list[torch.Tensor]]:
    parameters = [p for p in net.parameters() if p.requires_grad]
    losses = [
        F.cross_entropy(net(x[None]), y[None], label_smoothing=smoothing)
        for x, y in zip(features, labels, strict=True)
    ]
    return [list(torch.autograd.grad(loss, parameters)) for loss in losses]


def shortened(gradient: list[torch.Tensor], clipping: str | None, bound: float) -> torch.Tensor:
    """The formulas of clipping, written out for one clip."""
    if clipping == "per-layer":
        each = bound / len(gradient) ** 0.5
        gradient = [g * min(1.0, each / float(g.norm())) for g in gradient]
    whole = torch.cat([g.reshape(-1) for g in gradient])
    if clipping in ("flat", "adaptive"):
        whole = whole * min(1.0, bound / float(whole.norm()))
    if clipping == "automatic":
        whole = whole * bound / (float(whole.norm()) + 0.01)
    return whole


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("clipping", [None, "flat", "per-layer", "adaptive", "automatic"])
def test_gradients_are_those_of_clips_alone_clipped_as_the_mechanism_clips(clipping, smoothing):
    net, canaries = network("12,9"), draw_canaries(0, 0, 140, SHAPE)
    bound = 15.0
    mechanism = None if clipping is None else GaussianMechanism(1.0, bound, clipping=clipping)
    found = clip_gradients(
        net,
        canaries.features,
        canaries.labels,
        mechanism,
        loss=TrainingLoss(TrainingGroup(label_smoothing=smoothing)),
    )
    alone = one_at_a_time(net, canaries.features, canaries.labels, smoothing)
    for row, gradient in zip(found, alone, strict=True):
        expected = shortened(gradient, clipping, bound).double().numpy()
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    norms = [float(torch.cat([g.reshape(-1) for g in gradient]).norm()) for gradient in alone]
    assert min(norms) < bound < max(norms)  # some are clipped, some are not


def test_the_network_is_left_as_it_was():
    net, canaries = network("12"), draw_canaries(0, 0, 10, SHAPE)
    net.eval()
    before = net(canaries.features)
    clip_gradients(net, canaries.features, canaries.labels, None, loss=TrainingLoss())
    assert not net.training
    assert all(p.grad is None and getattr(p, "grad_sample", None) is None for p in net.parameters())
    assert torch.equal(net(canaries.features), before)
