"""Noise as it reaches weights: size, independence, and what differs when it is secure."""

import ast
import copy
import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fnl.privacy.noise import SecureNoise, normal_tensor
from fnl.randomness import Purpose, torch_stream
from fnl.training.dp_sgd import train
from fnl.training.mechanism import GaussianMechanism
from fnl.training.sampling import poisson_samples
from tests.runs import ROOT
from tests.training.small import sgd

LABELS = torch.arange(8) % 3

DRAWS = {"normal", "normal_", "randn", "randn_like", "standard_normal"}
PROBES = {"fnl/training/per_clip/own_modules.py"}
"""Draw a direction to try a module of one's own with: nothing is hidden by it."""


def test_what_clients_do_draws_its_noise_where_all_noise_is_drawn():
    """A second place would have to be told of secure noise, and of the order of draws, again."""
    drawing = {
        path.relative_to(ROOT).as_posix()
        for room in ("fnl/training", "clients")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in DRAWS
    }
    assert drawing == PROBES


class TwoLayers(nn.Module):
    """Clips of zeros give it no gradient: what moves its weights is noise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(20, 30, bias=False)
        self.second = nn.Linear(30, 3, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs)).mean(dim=1)


def noise_of(noise, mechanism: GaussianMechanism | None = None) -> dict[str, np.ndarray]:
    """Noise in every layer of one step of SGD, in units of σC/B̄."""
    mechanism = mechanism or GaussianMechanism(1.5, 0.5)
    network = TwoLayers()
    before = copy.deepcopy(network)
    train(
        network, torch.zeros(8, 4, 20), LABELS, sgd(1, 1.0, 1.0),
        batches=torch.Generator(), mechanism=mechanism, noise=noise,
    )  # fmt: skip
    unit = 1.5 * 0.5 / 8
    return {
        name: ((value - old) / unit).detach().numpy().ravel()
        for (name, value), old in zip(network.named_parameters(), before.parameters(), strict=True)
    }


def assert_standard_normal(sample: np.ndarray, level: float = 1e-4) -> None:
    low, high = stats.chi2.ppf([level / 2, 1 - level / 2], len(sample))
    assert low < float((sample**2).sum()) < high
    assert stats.kstest(sample, "norm").pvalue > level


METHODS = list(itertools.product(["flat", "per-layer", "automatic"], ["per-clip", "ghost"]))


@pytest.mark.parametrize(("clipping", "method"), METHODS)
@pytest.mark.parametrize("secure", [False, True])
def test_every_layer_gets_noise_of_its_size_whatever_the_clipping(clipping, method, secure):
    noise = SecureNoise() if secure else torch_stream(0, Purpose.PRIVACY_NOISE, 1, 1)
    layers = noise_of(noise, GaussianMechanism(1.5, 0.5, clipping, method))
    for sample in layers.values():
        # secure noise differs at every run: rarely enough outside not to fail by chance
        assert_standard_normal(sample, 1e-7 if secure else 1e-4)


def test_noise_is_independent_across_clients_rounds_and_layers():
    drawn = {
        (server_round, partition): noise_of(
            torch_stream(0, Purpose.PRIVACY_NOISE, server_round, partition)
        )
        for server_round, partition in itertools.product((1, 2), (0, 1, 2))
    }
    for one, other in itertools.combinations(drawn, 2):
        for layer in ("first.weight", "second.weight"):
            a, b = drawn[one][layer], drawn[other][layer]
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(len(a)), (one, other, layer)
    for layers in drawn.values():
        first, second = layers["first.weight"], layers["second.weight"]
        for start in range(0, len(first) - len(second), len(second)):
            part = first[start : start + len(second)]
            assert abs(np.corrcoef(part, second)[0, 1]) < 4.5 / np.sqrt(len(second))
    everything = np.concatenate([v for layers in drawn.values() for v in layers.values()])
    assert_standard_normal(everything)


def test_seeded_noise_comes_again_and_secure_noise_never():
    def flat(noise):
        return np.concatenate(list(noise_of(noise).values()))

    torch.manual_seed(0)
    seeded = [flat(torch_stream(0, Purpose.PRIVACY_NOISE, 1, 1)) for _ in range(2)]
    np.testing.assert_allclose(seeded[0], seeded[1], atol=1e-4)  # weights of another start
    secure = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 no global seed may reach secure noise
        secure.append(flat(SecureNoise()))
    assert abs(np.corrcoef(secure[0], secure[1])[0, 1]) < 5.5 / np.sqrt(len(secure[0]))
    assert abs(np.corrcoef(secure[0], seeded[0])[0, 1]) < 5.5 / np.sqrt(len(secure[0]))


def test_secure_noise_is_the_sum_of_four_and_not_one_quantile():
    class Counting(SecureNoise):
        calls = 0

        def uniform(self, size):
            type(self).calls += 1
            return np.full(size, 0.75)

    value = float(Counting().normal(1.0, 2.0, (1,))[0])
    assert Counting.calls == 4
    assert value == pytest.approx(1 + 2 * 2 * stats.norm.ppf(0.75))


@pytest.mark.parametrize("bits", [b"\x00", b"\xff"])
def test_uniform_numbers_never_reach_the_ends_where_the_quantile_is_infinite(bits, monkeypatch):
    monkeypatch.setattr("fnl.privacy.noise.os.urandom", lambda count: bits * count)
    value = float(SecureNoise().uniform((1,))[0])
    assert 0 < value < 1
    assert np.isfinite(SecureNoise().normal(0.0, 1.0, (3,))).all()


def test_uniform_numbers_are_uniform():
    sample = SecureNoise().uniform((20_000,))
    assert stats.kstest(sample, "uniform").pvalue > 1e-7
    assert sample.shape == (20_000,)


def test_a_normal_tensor_has_the_deviation_asked_for():
    for source in (torch.Generator().manual_seed(0), SecureNoise()):
        sample = normal_tensor(source, 3.0, (50, 40)).numpy().ravel() / 3
        assert_standard_normal(sample, 1e-7)


def test_secure_mini_batches_are_poisson_and_not_shuffled():
    drawn = list(poisson_samples(30, 0.2, 2000, SecureNoise()))
    sizes = np.array([len(rows) for rows in drawn])
    assert len(drawn) == 2000
    # a shuffled pass would have a fixed size and every clip once in five mini-batches
    assert sizes.var() == pytest.approx(30 * 0.2 * 0.8, rel=0.25)
    member = np.zeros((2000, 30))
    for step, rows in enumerate(drawn):
        assert len(set(rows)) == len(rows)
        member[step, rows] = 1
    counts = member.sum(axis=0)
    deviation = (counts - 400) / np.sqrt(2000 * 0.2 * 0.8)
    assert stats.chi2.sf((deviation**2).sum(), 30) > 1e-7
    passes = member[: 2000 // 5 * 5].reshape(-1, 5, 30).sum(axis=1)
    assert passes.var() == pytest.approx(5 * 0.2 * 0.8, rel=0.1)
