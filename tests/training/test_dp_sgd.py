"""DP-SGD: each property that the guarantee rests on, so that breaking one breaks a test."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from fnl.config import ModelGroup, TrainingGroup
from fnl.snn.network import build_network, initialise
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.plan import TrainingPlan
from tests.training.small import sgd

CLIPS, STEPS, FEATURES, CLASSES = 12, 9, 6, 4


def spiking(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    network = build_network(ModelGroup(hidden="10,8"), FEATURES, CLASSES)
    initialise(network, seed)
    return network.to(dtype)


def clips(dtype: torch.dtype = torch.float32, n: int = CLIPS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = 2 * torch.randn(n, STEPS, FEATURES, generator=generator, dtype=dtype)
    return features, torch.arange(n) % CLASSES


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters() if p.requires_grad])


def run(network: nn.Module, data, plan, mechanism=None, *, batches: int = 2, noise: int = 3):
    """Train a copy and return (movement of all weights, summary)."""
    trained = copy.deepcopy(network)
    summary = train(
        trained, *data, plan,
        batches=generator(batches), mechanism=mechanism, noise=generator(noise),
    )  # fmt: skip
    return flat(trained) - flat(network), summary


class Mean(nn.Module):
    """Logits without a bias: clips of zeros have gradient zero, so steps are noise alone."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs).mean(dim=1)


def assert_variance(sample: Tensor, variance: float) -> None:
    """Refuse a variance outside the central 99.9 % of a normal sample of mean zero."""
    low, high = stats.chi2.ppf([0.0005, 0.9995], sample.numel()) / sample.numel()
    assert low < float((sample**2).mean()) / variance < high
    assert abs(float(sample.mean())) < 4 * (variance / sample.numel()) ** 0.5


# --- noise ---


@pytest.mark.parametrize(
    ("sigma", "clip_norm", "sample_rate", "learning_rate", "steps"),
    [(1, 1, 1, 1, 1), (3, 1, 1, 1, 1), (1, 0.2, 1, 1, 1), (1, 1, 0.3, 1, 1), (1, 1, 1, 0.1, 1),
     (0.7, 2, 0.4, 0.5, 5)],
)  # fmt: skip
def test_noise_alone_has_the_variance_of_the_formula(
    sigma, clip_norm, sample_rate, learning_rate, steps
):
    features, labels = torch.zeros(CLIPS, 3, 500), torch.arange(CLIPS) % CLASSES
    plan = sgd(steps, sample_rate, learning_rate)
    network = Mean(500, CLASSES)
    moved, _ = run(network, (features, labels), plan, GaussianMechanism(sigma, clip_norm))
    expected_batch = sample_rate * CLIPS
    assert_variance(moved, steps * (learning_rate * sigma * clip_norm / expected_batch) ** 2)
    assert stats.kstest(moved / moved.std(), "norm").pvalue > 1e-3


def test_noise_on_a_spiking_network_is_added_to_the_clipped_step():
    network, data = build_network(ModelGroup(hidden="64,64"), FEATURES, CLASSES), clips()
    initialise(network, 0)
    plan = sgd(sample_rate=0.5)
    noisy, _ = run(network, data, plan, GaussianMechanism(0.8, 0.1))
    clipped, _ = run(network, data, plan, GaussianMechanism(0.0, 0.1))
    assert_variance(noisy - clipped, (0.5 * 0.8 * 0.1 / (0.5 * CLIPS)) ** 2)


def test_noise_is_fresh_at_every_step_and_in_every_stream():
    data = torch.zeros(CLIPS, 3, 200), torch.arange(CLIPS) % CLASSES
    network, mechanism = Mean(200, CLASSES), GaussianMechanism(1.0, 1.0)
    one, _ = run(network, data, sgd(1), mechanism)
    two, _ = run(network, data, sgd(2), mechanism)
    other, _ = run(network, data, sgd(1), mechanism, noise=4)
    for a, b in ((one, two - one), (one, other)):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / one.numel() ** 0.5
    again, _ = run(network, data, sgd(2), mechanism)
    assert torch.equal(two, again)


def test_noise_does_not_follow_the_global_generator():
    data, mechanism = clips(), GaussianMechanism(1.0, 1.0)
    torch.manual_seed(0)
    first, _ = run(spiking(), data, sgd(3, 0.5), mechanism)
    torch.manual_seed(1)
    second, _ = run(spiking(), data, sgd(3, 0.5), mechanism)
    assert torch.equal(first, second)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_empty_sample_is_a_step_of_noise_alone(optimizer):
    data, rate = clips(n=3), 1e-9
    plan = TrainingPlan(4, rate, 1.0, TrainingGroup(optimizer=optimizer))
    network = build_network(ModelGroup(hidden="64,64"), FEATURES, CLASSES)
    moved, summary = run(network, data, plan, GaussianMechanism(1.0, 1e-9))
    assert (summary.loss, summary.clip_fraction, summary.gradient_norm_median) == (None,) * 3
    if optimizer == "sgd":
        assert_variance(moved, 4 * (1e-9 / (3 * rate)) ** 2)
    else:
        assert (moved != 0).all()
    still, summary = run(network, data, plan)
    assert not still.any()
    assert summary.loss is None


# --- clipping ---


def one_clip_at_a_time(network: nn.Module, features: Tensor, labels: Tensor) -> list[Tensor]:
    """The gradient of every clip from a backward pass of its own, flat."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = []
    for clip in range(len(labels)):
        loss = F.cross_entropy(network(features[clip : clip + 1]), labels[clip : clip + 1])
        gradients.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)]))
    return gradients


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_step_is_the_sum_of_clips_each_clipped_alone(share):
    network, data = spiking(torch.float64), clips(torch.float64)
    gradients = one_clip_at_a_time(network, *data)
    norms = torch.stack([g.norm() for g in gradients])
    # between norms, so that the share of clips above the bound is exact
    clip_norm = float(norms.quantile(1 - share)) * {0.0: 1.01, 0.5: 1, 1.0: 0.99}[share]
    moved, summary = run(network, data, sgd(), GaussianMechanism(0.0, clip_norm))
    clipped = [g * min(1.0, clip_norm / float(g.norm())) for g in gradients]
    expected = -0.5 * torch.stack(clipped).sum(0) / CLIPS
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)
    assert summary.clip_fraction == pytest.approx(share)
    assert summary.gradient_norm_median == pytest.approx(float(norms.quantile(0.5)), rel=1e-9)


def test_one_clip_moves_the_weights_no_further_than_the_bound():
    network, (features, labels) = spiking(), clips()
    features[0] *= 1e3
    mechanism = GaussianMechanism(0.0, 0.05)
    plan = sgd(1, 1.0, 1.0)
    with_it, _ = run(network, (features, labels), plan, mechanism)
    without, _ = run(network, (features[1:], labels[1:]), plan, mechanism)
    # both are sums over B̄ clips: undo the division to compare neighbouring data sets
    difference = with_it * CLIPS - without * (CLIPS - 1)
    assert 0.049 < float(difference.norm()) < 0.05 * (1 + 1e-4)


def test_the_step_is_divided_by_the_expected_batch_not_the_drawn_one():
    network, data = spiking(torch.float64), clips(torch.float64)
    rows = batches_drawn(network, data, sgd(1, 0.4))[0]
    gradients = one_clip_at_a_time(network, data[0][rows], data[1][rows])
    assert len(rows) != 0.4 * CLIPS
    expected = -0.5 * torch.stack(gradients).sum(0) / (0.4 * CLIPS)
    for mechanism in (None, GaussianMechanism(0.0, 1e6)):
        moved, _ = run(network, data, sgd(1, 0.4), mechanism)
        torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "plan",
    [
        sgd(6, 0.4, 0.3),
        sgd(6, 0.4, 0.3, momentum=0.9),
        TrainingPlan(6, 0.4, 0.01, TrainingGroup(optimizer="adam")),
    ],
)
def test_without_noise_and_bound_private_training_is_its_twin(plan):
    network, data = spiking(torch.float64), clips(torch.float64)
    private, private_summary = run(network, data, plan, GaussianMechanism(0.0, 1e6))
    plain, plain_summary = run(network, data, plan)
    assert plain.norm() > 0.01
    torch.testing.assert_close(private, plain, rtol=1e-9, atol=1e-11)
    assert private_summary.loss == pytest.approx(plain_summary.loss, rel=1e-9)
    assert plain_summary.clip_fraction is None
    assert plain_summary.gradient_norm_median is None


def test_momentum_and_rate_reach_the_optimizer():
    network, data = spiking(), clips()
    moved = {
        (rate, momentum): run(network, data, sgd(3, 1.0, rate, momentum=momentum))[0]
        for rate in (0.1, 0.2)
        for momentum in (0.0, 0.9)
    }
    assert len({tuple(value.tolist()) for value in moved.values()}) == 4


# --- sampling ---


def batches_drawn(network: nn.Module, data, plan, mechanism=None, seed: int = 2) -> list[list[int]]:
    """Return the rows of each non-empty mini-batch, told apart by their features."""
    seen: list[list[int]] = []
    features = data[0]

    def record(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        equal = (args[0][:, None] == features[None]).flatten(2).all(dim=2)
        seen.append(equal.int().argmax(dim=1).tolist())

    watched = copy.deepcopy(network)
    watched.register_forward_pre_hook(record)
    train(
        watched, *data, plan,
        batches=generator(seed), mechanism=mechanism, noise=generator(3),
    )  # fmt: skip
    return seen


@pytest.mark.parametrize("mechanism", [None, GaussianMechanism(1.0, 1.0)], ids=["plain", "private"])
def test_samples_are_poisson(mechanism):
    data, rate, steps = clips(), 0.15, 1500
    drawn = batches_drawn(Mean(FEATURES, CLASSES), data, sgd(steps, rate, 1e-6), mechanism)
    # sizes are binomial, the empty ones (which make no forward pass) among them
    sizes = np.bincount([len(rows) for rows in drawn], minlength=CLIPS + 1).astype(float)
    sizes[0] += steps - len(drawn)
    expected = stats.binom.pmf(np.arange(CLIPS + 1), CLIPS, rate) * steps
    tail = 6  # pool the rare large ones
    observed, expected = (
        np.append(sizes[:tail], sizes[tail:].sum()),
        np.append(expected[:tail], expected[tail:].sum()),
    )
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    # each clip is drawn equally often, never twice in one, and apart from the others
    member = np.zeros((steps, CLIPS))
    for step, rows in enumerate(drawn):
        assert len(set(rows)) == len(rows)
        member[step, rows] = 1
    deviation = (member.sum(axis=0) - steps * rate) / np.sqrt(steps * rate * (1 - rate))
    assert 1e-3 < stats.chi2.sf((deviation**2).sum(), CLIPS) < 1 - 1e-3
    together = np.corrcoef(member[: len(drawn)].T)[np.triu_indices(CLIPS, 1)]
    assert np.abs(together).max() < 6 / np.sqrt(steps)


def test_the_twin_sees_the_same_batches_whatever_the_mechanism():
    network, data, plan = spiking(), clips(), sgd(12, 0.3)
    plain = batches_drawn(network, data, plan)
    for mechanism in (GaussianMechanism(0.0, 1.0), GaussianMechanism(5.0, 0.1)):
        assert batches_drawn(network, data, plan, mechanism) == plain
    assert batches_drawn(network, data, plan, seed=4) != plain


@pytest.mark.parametrize(
    ("n", "batch_size", "local_epochs", "sample_rate", "steps"),
    [(100, 25, 1, 0.25, 4), (100, 25, 2.5, 0.25, 10), (10, 32, 1, 1, 1), (10, 32, 3, 1, 3),
     (33, 32, 1, 32 / 33, 1), (1000, 10, 0.001, 0.01, 1), (1, 1, 1, 1, 1)],
)  # fmt: skip
def test_a_plan_passes_over_the_clips_as_often_as_asked(
    n, batch_size, local_epochs, sample_rate, steps
):
    options = TrainingGroup(batch_size=batch_size, local_epochs=local_epochs, learning_rate=0.1)
    plan = TrainingPlan.for_clips(n, options)
    assert plan == TrainingPlan(steps, sample_rate, 0.1, options)


# --- the rest ---


def test_loss_is_the_mean_over_the_clips_drawn():
    network, data = spiking(), clips()
    expected = F.cross_entropy(network(data[0]), data[1]).item()
    for mechanism in (None, GaussianMechanism(1.0, 1.0)):
        _, summary = run(network, data, sgd(), mechanism)
        assert summary.loss == pytest.approx(expected, rel=1e-5)


def test_training_goes_on_where_it_stopped():
    # a second call on the same network, as in local fine-tuning, must find no leftovers of Opacus
    network, data = spiking(), clips()
    again = copy.deepcopy(network)

    def once(which: nn.Module) -> None:
        train(
            which, *data, sgd(2, 0.5),
            batches=generator(2), mechanism=GaussianMechanism(0.5, 1.0), noise=generator(3),
        )  # fmt: skip

    once(network)
    fresh = spiking()
    fresh.load_state_dict(network.state_dict())
    once(network)
    once(fresh)
    assert torch.equal(flat(network), flat(fresh))
    once(again)
    assert not torch.equal(flat(again), flat(network))


def test_training_learns():
    network, (features, _) = spiking(), clips(n=64)
    labels = (features.mean(dim=(1, 2)) > 0).long()
    before = F.cross_entropy(network(features), labels).item()
    mechanism = GaussianMechanism(0.3, 1.0)
    for kind in (None, mechanism):
        trained = copy.deepcopy(network)
        train(
            trained, features, labels, sgd(40, 0.5, 0.1),
            batches=generator(2), mechanism=kind, noise=generator(3),
        )  # fmt: skip
        assert F.cross_entropy(trained(features), labels).item() < 0.7 * before


def test_a_mechanism_without_a_noise_stream_is_refused():
    with pytest.raises(ValueError, match="noise stream"):
        train(
            spiking(), *clips(), sgd(), batches=generator(2), mechanism=GaussianMechanism(1.0, 1.0)
        )
