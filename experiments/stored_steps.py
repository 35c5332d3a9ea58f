"""The steps of a read-out on stored features: what a recipe reaches, in seconds a seed.

    python -m experiments.stored_steps private --set data.corpus=speech-commands --set data.root=DIR

Where clients train the last linear map alone, what it is given of a clip never changes. So that is
computed once, and the run's steps are taken on it: each clip's gradient clipped, the run's own
noise, schedule, weighting, server momentum and average. It is what `fnl run` does, with other draws
and without reports. The server's learning is the recipe's; devices, files and attacks are not here.

`--central` puts all clips into one trusted place: DP-SGD of the same network at the same ε, which
hides a clip by noise of its own and releases no rates.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import Tensor, nn

from experiments.recipe import load_recipe
from experiments.study import command
from fnl.config import Config, Scalar, parse_config, parse_overrides
from fnl.data.federated import Federation, open_federation
from fnl.errors import ConfigError
from fnl.privacy.clip_factor import clip_factor
from fnl.randomness import Purpose, torch_stream
from fnl.runtime.determinism import one_thread
from fnl.schedule import asked_in
from fnl.snn.network import SpikingNetwork
from fnl.training.spending import noise_of, workload_of
from fnl.training.start import start_network

_NEEDED: Mapping[str, Scalar] = {
    "training.trained": "readout.linear",
    "training.optimizer": "sgd",
    "training.momentum": 0.0,
    "training.steps": 1,
    "training.batch-size": 0,
    "training.views": 1,
    "training.augmentation": False,
    "training.weight-decay": 0.0,
    "training.label-smoothing": 0.0,
    "model.dropout": 0.0,
    "model.readout": "mean",
    "privacy.clipping": "flat",
    "coordination.aggregation": "fedavg",
}
"""What the steps here are written for."""

_BATCH = 256


@dataclass(frozen=True)
class Stored:
    """What the read-out's linear map is given, and says: of training clips, and of those tested on.

    Attributes:
        features: of all clients' clips, with a one behind them [n, F + 1].
        labels: int64 [n].
        owners: whose clip it is, int64 [n].
        tested: features and labels of the clips of `evaluation.split`.
        start: weights and bias that the run starts with [C, F + 1].
    """

    features: Tensor
    labels: Tensor
    owners: Tensor
    tested: tuple[Tensor, Tensor]
    start: Tensor


def check(config: Config) -> None:
    """Refuse a configuration whose steps are not those taken here.

    Raises:
        ConfigError: naming the first key.
    """
    flat = config.flat()
    for key, value in _NEEDED.items():
        if flat[key] != value:
            raise ConfigError(f"steps on stored features need {key} = {value}, not {flat[key]}")
    if config.coordination.server_optimizer not in ("none", "fedavgm"):
        raise ConfigError("steps on stored features need a server optimizer of none or fedavgm")
    if config.coordination.selected != config.coordination.candidates:
        raise ConfigError("steps on stored features need all candidates to be selected")


@torch.no_grad()
def stored(config: Config, federation: Federation) -> Stored:
    """Return the features of all clips, of the network that the run starts with."""
    network = start_network(config, federation)
    if not isinstance(network, SpikingNetwork):
        raise ConfigError("steps on stored features need a network of fnl's own")
    network.eval()
    linear, given = network.readout.linear, list[Tensor]()
    handle = linear.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))

    def of(clips: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        given.clear()
        for batch in clips[0].split(_BATCH):
            network(batch)
        return F.pad(torch.cat(given), (0, 1), value=1.0), clips[1]

    clients = [of(federation.client_clips(one)) for one in range(config.data.clients)]
    features, labels = (torch.cat(parts) for parts in zip(*clients, strict=True))
    owners = torch.arange(len(clients)).repeat_interleave(
        torch.tensor([len(y) for _, y in clients])
    )
    tested = of(federation.split_clips(config.evaluation.split))
    handle.remove()
    return Stored(features, labels, owners, tested, _whole(linear))


def _whole(linear: nn.Linear) -> Tensor:
    return torch.cat([linear.weight.detach(), linear.bias.detach()[:, None]], dim=1)


def clipped_sum(weights: Tensor, features: Tensor, labels: Tensor, bound: float) -> Tensor:
    """Return the sum of the clips' gradients [C, F + 1] of cross-entropy, each clipped to `bound`.

    A clip's is the outer product of its error p − y and its features.
    """
    errors = (features @ weights.T).softmax(1) - F.one_hot(labels, len(weights))
    norms = errors.norm(dim=1) * features.norm(dim=1)
    return (errors * clip_factor(norms, bound)[:, None]).T @ features


def learned(config: Config, kept: Stored) -> Tensor:
    """Return the weights and bias [C, F + 1] that the run of `config` evaluates at its end."""
    server, average = config.coordination, config.evaluation.average
    weights, velocity, mean = kept.start.clone(), torch.zeros_like(kept.start), kept.start
    for server_round in range(1, config.run.rounds + 1):
        step = _step(config, kept, weights, server_round)
        if server.server_optimizer == "fedavgm":
            velocity = server.server_momentum * velocity + step
            step = server.server_learning_rate * velocity
        weights = weights - step
        share = (1 - average) / (1 - average**server_round)
        mean = mean + share * (weights - mean)
    return mean


def accuracy(weights: Tensor, kept: Stored) -> float:
    """Return the share of the tested clips that weights and bias [C, F + 1] tell right."""
    features, labels = kept.tested
    return float(((features @ weights.T).argmax(1) == labels).double().mean())


def _step(config: Config, kept: Stored, weights: Tensor, server_round: int) -> Tensor:
    """Return what one round takes from the weights [C, F + 1].

    Clients have different n_k: the mean of their updates by n_k is the sum over all clips, by n.
    """
    asked = torch.from_numpy(asked_in(config, server_round))
    rows = torch.isin(kept.owners, asked)
    features, labels = kept.features[rows], kept.labels[rows]
    sizes = kept.owners[rows].bincount(minlength=config.data.clients)[asked].tolist()
    bound = config.privacy.clip_norm if config.is_private else math.inf
    total = clipped_sum(weights, features, labels, bound)
    if config.is_private:
        generator = torch_stream(config.run.seed, Purpose.PRIVACY_NOISE, server_round)
        sigma = _sigma(config, tuple(asked.tolist()), tuple(sizes))
        total += sigma * bound * torch.randn(weights.shape, generator=generator)
    rate = config.training.learning_rate_of(server_round, config.run.rounds)
    return rate * total / len(labels)


@lru_cache(maxsize=1024)
def _sigma(config: Config, asked: tuple[int, ...], sizes: tuple[int, ...]) -> float:
    """Return the multiplier of the noise of the sum over those asked: its own, or all of theirs."""
    works = [workload_of(config, *one) for one in zip(asked, sizes, strict=True)]
    each = [noise_of(config, work).gradients for work in works]
    return each[0] if config.shares_noise else math.hypot(*each)


def centralised(config: Config) -> Config:
    """Return the run in which one party holds all clips, and adds the noise that hides one."""
    keys: dict[str, Scalar] = {
        "data.clients": 1,
        "data.partitioner": "iid",
        "privacy.noise": "local",
        "privacy.rate-release": "none",
        "coordination.candidates": 1,
        "coordination.selected": 1,
        "run.strict-privacy": False,
    }
    return parse_config({**config.flat(), **keys})


def mean_and_interval(shares: Sequence[float]) -> tuple[float, float]:
    """Return mean and half of the 95 % interval (Student's) of accuracies, in points."""
    points = 100 * np.array(shares)
    if len(points) < 2:
        return float(points.mean()), float("nan")
    error = points.std(ddof=1) / len(points) ** 0.5
    return float(points.mean()), float(student.ppf(0.975, len(points) - 1) * error)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    keys = parse_overrides(options.set)
    grid = [_choices(one) for one in options.grid]
    for chosen in itertools.product(*grid):
        config = load_recipe(options.recipe, {**keys, **dict(chosen)}).config
        config = centralised(config) if options.central else config
        shares = accuracies(config, options.seeds)
        mean, half = mean_and_interval(shares)
        each = " ".join(f"{100 * share:.1f}" for share in shares)
        print(*(f"{key}={value}" for key, value in chosen), f"{mean:.1f} ± {half:.1f}  ({each})")


def accuracies(config: Config, seeds: Sequence[int]) -> list[float]:
    """Return the accuracy of each seed.

    Raises:
        ConfigError: as `check`.
    """
    check(config)
    with one_thread():
        kept = _stored_once(_start_only(config))
        seeded = (parse_config({**config.flat(), "run.seed": seed}) for seed in seeds)
        return [accuracy(learned(one, kept), kept) for one in seeded]


def _start_only(config: Config) -> Config:
    """Return a configuration that tells of the start and the clips, and nothing of the steps."""
    flat = config.flat()
    told = {key: value for key, value in flat.items() if key.startswith(("data.", "model."))}
    more = ("run.seed", "training.trained", "evaluation.split")
    return parse_config({**told, **{key: flat[key] for key in more}, "privacy.mode": "none"})


@lru_cache(maxsize=2)
def _stored_once(config: Config) -> Stored:
    return stored(config, open_federation(config))


def _choices(text: str) -> list[tuple[str, Scalar]]:
    key, _, values = text.partition("=")
    return [next(iter(parse_overrides([f"{key}={one}"]).items())) for one in values.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.stored_steps", description=__doc__)
    parser.add_argument("recipe", help="name of a recipe, or a path that ends in .toml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="repeatable"
    )
    parser.add_argument(
        "--grid", action="append", default=[], metavar="GROUP.KEY=VALUE,VALUE", help="repeatable"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--central", action="store_true", help="all clips in one trusted place")
    return parser


if __name__ == "__main__":
    sys.exit(main())
