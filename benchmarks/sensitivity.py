"""How far a clip moves what a client releases, under every network, neuron, clipping and option.

`python -m benchmarks sensitivity` goes through all combinations of what decides how a clip becomes
a gradient or a rate. What is beside that (dropout, augmentation, label smoothing, ...) is on or off
at random in each. `tests/audit/test_sensitivity_combinations.py` takes a part that has all pairs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import combinations, islice, product
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer

from fnl.audit.release_sensitivity import rate_sensitivity
from fnl.audit.sensitivity import TIGHT, Sensitivity, with_bounds_of
from fnl.audit.step_sensitivity import first_weights, step_sensitivity
from fnl.config import Config, Scalar, parse_config
from fnl.data.federated import open_federation
from fnl.snn.network import SpikingNetwork, build_network, initialise
from fnl.training.client import LocalTraining
from fnl.training.start import _start

SMALL: dict[str, Scalar] = {
    "data.clients": 4,
    "data.speakers": 10,
    "data.clips-per-word": 1,
    "data.frame-hop-ms": 50,
    "data.mel-bins": 16,
    "model.hidden": "8,8",
    "model.groups": 4,
    "model.kernel-size": 3,
    "model.threshold": 0.5,
    "training.batch-size": 5,
    "training.local-epochs": 0.25,
    "training.optimizer": "adam",
    "coordination.candidates": 4,
    "coordination.selected": 2,
    "privacy.rate-release": "gaussian",
}
"""Clients of 20 clips of 20 steps, a quarter of them in a mini-batch."""

BATCHES = [[0, 3, 4, 9, 17], [4, 5, 11, 13]]
REMOVED = (0, 4)
"""Fixed mini-batches, and the clips that are removed in turn; one is not in all of them."""

Combination = Mapping[str, Scalar]

MAIN: dict[str, tuple[Scalar, ...]] = {
    "model.network": ("feedforward", "recurrent", "temporal-conv", "conv", "delays"),
    "model.neuron": ("lif", "recurrent-lif", "synaptic", "adlif"),
    "model.learn-beta": (False, True),
    "model.learn-threshold": (False, True),
    "model.normalisation": ("none", "layer", "group"),
    "model.encoding": ("direct", "rate", "delta", "latency"),
    "privacy.clipping": ("flat", "per-layer", "automatic", "adaptive"),
    "privacy.clipping-method": ("per-clip", "ghost"),
}
BESIDE: dict[str, tuple[Scalar, ...]] = {
    "model.dropout": (0.0, 0.3),
    "training.augmentation": (False, True),
    "training.label-smoothing": (0.0, 0.1),
    "training.proximal-mu": (0.0, 0.5),
    "training.weight-decay": (0.0, 0.1),
    "model.readout": ("membrane", "mean"),
    "start": ("first weights", "trained weights"),
    "parts": ("all trained", "some frozen"),
}
"""What may be on or off; `start` and `parts` are no keys."""


def possible(combination: Combination) -> bool:
    """Return whether the configuration is accepted."""
    recurrent = combination["model.network"] == "recurrent"
    return not recurrent or combination["model.neuron"] in ("lif", "recurrent-lif")


def everything(seed: int = 0) -> Iterator[Combination]:
    """Yield all combinations of `MAIN`, each with some of `BESIDE`."""
    generator = np.random.default_rng(seed)
    for values in product(*MAIN.values()):
        combination = {**dict(zip(MAIN, values, strict=True)), **_drawn(BESIDE, generator)}
        if possible(combination):
            yield combination


def _drawn(
    keys: Mapping[str, tuple[Scalar, ...]], generator: np.random.Generator
) -> dict[str, Scalar]:
    return {key: choices[generator.integers(len(choices))] for key, choices in keys.items()}


def pairs_of(combination: Combination) -> set[tuple[tuple[str, Scalar], ...]]:
    """Return the pairs of settings in a combination."""
    return set(combinations(combination.items(), 2))


def part_with_all_pairs(at_least: int, seed: int = 0) -> list[Combination]:
    """Return some combinations in which every pair of settings occurs, greedily chosen."""
    generator, keys = np.random.default_rng(seed), MAIN | BESIDE

    def anyone(fixed: Combination) -> Combination:
        while True:
            if possible(one := {**_drawn(keys, generator), **fixed}):
                return one

    missing = {
        ((a, x), (b, y))
        for (a, xs), (b, ys) in combinations(keys.items(), 2)
        for x, y in product(xs, ys)
        if possible({"model.network": "conv", "model.neuron": "lif", a: x, b: y})
    }
    chosen: list[Combination] = []
    while missing or len(chosen) < at_least:
        fixed = dict(min(missing, key=repr)) if missing else {}
        best = max((anyone(fixed) for _ in range(20)), key=lambda one: len(missing & pairs_of(one)))
        missing -= pairs_of(best)
        chosen.append(best)
    return chosen


def measure(combination: Combination, base: Combination | None = None) -> list[Sensitivity]:
    """Return how far clips move the steps and the rates of a client, under tight bounds."""
    flat = {key: value for key, value in combination.items() if "." in key}
    config = with_bounds_of(parse_config({**(base or {}), **SMALL, **flat}), TIGHT)
    federation = open_federation(config)
    with some_frozen() if combination["parts"] == "some frozen" else nullcontext():
        weights = first_weights(config, federation)
        if combination["start"] == "trained weights":
            weights, _ = LocalTraining(_quick(config), federation, (1, 1)).train(weights, None)
        steps = step_sensitivity(config, federation, REMOVED, BATCHES, weights=weights)
        return [*steps, rate_sensitivity(config, federation, REMOVED, weights=weights)]


def _quick(config: Config) -> Config:
    changes = {"learning_rate": 0.02, "batch_size": 10, "local_epochs": 2.0}
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


@contextmanager
def some_frozen() -> Iterator[None]:
    """Let clients train neither the first linear map nor the first normalisation."""

    def frozen(*arguments: Any, **options: Any) -> SpikingNetwork:
        network = build_network(*arguments, **options)
        if not isinstance(network, SpikingNetwork):
            raise TypeError("a network of one's own has no first map to freeze")
        initialise(network, seed=0)
        for module in (network.linear[0], network.norm[0]):
            module.requires_grad_(False)
        return network

    # all networks are built where a run starts, and kept there for a configuration
    _start.cache_clear()
    with patch("fnl.training.start.build_network", frozen):
        yield
    _start.cache_clear()


def main(
    every: Annotated[int, typer.Option(min=1, help="Take every so manyth combination.")] = 1,
) -> None:
    """Print the number of combinations, and the largest ratio of each release."""
    torch.set_num_threads(1)
    largest: dict[str, tuple[float, Combination]] = {}
    started, tried, refuted = time.perf_counter(), 0, 0
    for combination in islice(everything(), 0, None, every):
        found = measure(combination)
        tried += 1
        if not all(one.holds for one in found):
            refuted += 1
            print(f"refuted: {combination}: {[one.described for one in found]}", flush=True)
        for one in found:
            if one.largest > largest.get(one.target, (0.0, {}))[0]:
                largest[one.target] = one.largest, combination
    seconds = time.perf_counter() - started
    print(f"{tried} combinations in {seconds:.0f} s, {refuted} refuted")
    for target, (ratio, combination) in largest.items():
        print(f"{target}: at most {ratio:.6f} of the bound, under {dict(combination)}")
