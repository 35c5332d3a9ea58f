"""What a reviewer would do: draw each release from both of two neighbours, and compare.

For every mechanism the worst neighbouring pair is drawn many times through the code that a run
executes. δ(ε) of the pair is measured as P(S) − e^ε·P′(S) over the half-lines S of a statistic
that tells the two apart best, and held against the curve that is claimed: Google's privacy loss
distributions of (Poisson-subsampled) Gaussian mechanisms, which are not ours. It must not lie above
the curve, and not far below it either: the pair is the worst one. With four fifths of the noise
it must lie above.
"""

import numpy as np
import pytest
import torch
from dp_accounting.pld import privacy_loss_distribution as pld
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fnl.privacy.client_level import private_aggregate
from fnl.privacy.rate_release import release
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from tests.training.small import sgd

DRAWS = 2500
EPSILONS = (0.0, 0.5, 1.0)
SLACK = 5 * 0.5 / DRAWS**0.5
"""Five standard errors of a measured share: chance exceeds it once in millions of runs."""


def measured(statistic_with, statistic_without, epsilon: float) -> float:
    """Return the largest P(S) − e^ε·P′(S) over S = {statistic above or below a threshold}.

    Thresholds are chosen on one half of the draws and judged on the other, so that choosing the
    largest of many differences does not favour what is measured.
    """
    half = len(statistic_with) // 2

    def curve(draws, thresholds):
        above = (draws[:, None] > thresholds).mean(0)
        return np.stack([above, 1 - above])

    thresholds = np.linspace(-4, 4, 81) * statistic_with.std() + statistic_with.mean()
    both = []
    for one, other in ((statistic_with, statistic_without), (statistic_without, statistic_with)):
        chosen = curve(one[:half], thresholds) - np.exp(epsilon) * curve(other[:half], thresholds)
        judged = curve(one[half:], thresholds) - np.exp(epsilon) * curve(other[half:], thresholds)
        both.append(judged.flat[chosen.argmax()])
    return float(max(both))


def claimed(sigma: float, sample_rate: float, epsilon: float, interval: float = 1e-4) -> float:
    """Return δ at `epsilon` of one step, by Google's accountant on a mesh of `interval`."""
    loss = pld.from_gaussian_mechanism(
        sigma, value_discretization_interval=interval, sampling_prob=sample_rate
    )
    return float(loss.get_delta_for_epsilon(epsilon))


class Scores(nn.Module):
    """One linear map of the time mean: its gradient of a clip of zeros is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(self.map.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.map(features.mean(1))


def noised_sums(mechanism: GaussianMechanism, sample_rate: float, *, there: bool, seed: int):
    """Return what each of `DRAWS` steps releases, along the gradient of one clip, in units of C.

    The clip is there, or its place is empty (a clip of zeros, whose gradient is zero). The weights
    do not move, for the learning rate is nothing.
    """
    features = torch.zeros(2, 1, 2)
    features[0, 0, 0] = 1000.0 * there  # far above any bound
    plan = sgd(DRAWS, sample_rate, 1e-30)
    seen = []

    def note(optimizer, *_):
        (weight,) = (p for group in optimizer.param_groups for p in group["params"])
        along = weight.grad.reshape(-1)  # [2 scores x 2 features], possibly as one vector
        seen.append(float(along[0] - along[2]) / 2**0.5)

    handle = register_optimizer_step_pre_hook(note)
    try:
        train(
            Scores(), features, torch.tensor([1, 1]), plan,
            batches=torch.Generator().manual_seed(seed),
            noise=torch.Generator().manual_seed(seed + 1), mechanism=mechanism,
        )  # fmt: skip
    finally:
        handle.remove()
    assert len(seen) == DRAWS
    return np.array(seen) * sample_rate * len(features) / mechanism.clip_norm


def dp_sgd(sigma: float, clipping: str, sample_rate: float):
    mechanism = GaussianMechanism(sigma, 0.7, clipping=clipping)  # type: ignore[arg-type]
    return (
        noised_sums(mechanism, sample_rate, there=True, seed=10),
        noised_sums(mechanism, sample_rate, there=False, seed=20),
    )


def rates(sigma: float, *_):
    generator = np.random.default_rng(3)
    there, gone = np.array([[5.0, 0.0], [0.1, 0.1]]), np.array([[0.0, 0.0], [0.1, 0.1]])

    def draws(vectors):
        options = {"clip_norm": 0.5, "noise_multiplier": sigma, "num_clips": 2}
        return np.array(
            [release(vectors, **options, generator=generator)[0] for _ in range(DRAWS)]
        ) * (2 / 0.5)

    return draws(there), draws(gone)


def client_level(sigma: float, *_):
    generator = np.random.default_rng(4)
    before = {"w": np.zeros(2, np.float32)}
    shares = np.array([0.6, 0.4])  # the client of the largest share is the worst case

    def draws(first):
        models = [{"w": np.array([first, 0], np.float32)}, {"w": np.array([0, 9], np.float32)}]
        options = {"clip_norm": 2.0, "noise_multiplier": sigma, "generator": generator}
        options |= {"largest_share": 0.6}
        return np.array(
            [private_aggregate(before, models, shares, **options)["w"][0] for _ in range(DRAWS)]
        ) / (0.6 * 2.0)

    return draws(100.0), draws(0.0)


MECHANISMS = {
    "gradients, flat": (lambda sigma: dp_sgd(sigma, "flat", 0.5), 0.5),
    "gradients, full batch": (lambda sigma: dp_sgd(sigma, "flat", 1.0), 1.0),
    "gradients, automatic": (lambda sigma: dp_sgd(sigma, "automatic", 0.5), 0.5),
    "released rates": (rates, 1.0),
    "a client's update": (client_level, 1.0),
}


@pytest.mark.parametrize("name", MECHANISMS)
def test_no_release_tells_neighbours_apart_better_than_claimed(name):
    mechanism, sample_rate = MECHANISMS[name]
    present, absent = mechanism(1.0)
    for epsilon in EPSILONS:
        curve = claimed(1.0, sample_rate, epsilon)
        found = measured(present, absent, epsilon)
        slack = SLACK * (1 + np.exp(epsilon))
        assert found <= curve + slack, f"δ({epsilon}) = {found}, claimed {curve}"
        assert found >= curve - slack, f"the pair is not the worst one: {found} of {curve}"


@pytest.mark.parametrize("name", ["gradients, full batch", "released rates", "a client's update"])
def test_too_little_noise_is_seen(name):
    mechanism, sample_rate = MECHANISMS[name]
    present, absent = mechanism(0.6)  # claimed: 1
    assert measured(present, absent, 0.5) > claimed(1.0, sample_rate, 0.5) + SLACK * 2.7
