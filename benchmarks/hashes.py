"""The weights of small runs, as hashes: is a change one of speed and order alone?

    python -m benchmarks hashes > before.txt

Print them before the change and after it, on one machine. Hashes of two machines differ: their
processors add in other orders.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import fnl
from fnl.config import NETWORKS, NEURONS

SMALL: Mapping[str, Mapping[str, Any]] = {
    "data": {"speakers": 20, "clips_per_word": 2, "clients": 4},
    "coordination": {"candidates": 4, "selected": 2},
    "run": {"rounds": 2},
    "model": {"hidden": "16,16"},
}
WAYS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "reset zero": {"model": {"reset": "zero"}},
    "surrogate sigmoid": {"model": {"surrogate": "sigmoid"}},
    "surrogate atan": {"model": {"surrogate": "atan"}},
    "neurons learn": {"model": {"learn_beta": True, "learn_threshold": True}},
    "activation relu": {"model": {"activation": "relu"}},
    "read-out of all layers": {"model": {"readout_layers": "all"}},
    "clipping per layer": {"privacy": {"clipping": "per-layer"}},
    "clipping automatic": {"privacy": {"clipping": "automatic"}},
    "clipping adaptive": {"privacy": {"clipping": "adaptive"}},
    "clipping by ghosts": {"privacy": {"clipping_method": "ghost"}},
    "not private": {"privacy": {"mode": "none", "rate_release": "none"}},
    "distributed noise": {
        "privacy": {"noise": "distributed"},
        "coordination": {"selected": 4, "selection": "random", "aggregation": "fedavg"},
        "training": {"steps": 1, "optimizer": "sgd"},
        "run": {"strict_privacy": True},
    },
    "sgd": {"training": {"optimizer": "sgd", "momentum": 0.9}},
    "augmentation, views, dropout": {
        "model": {"dropout": 0.2},
        "training": {"augmentation": True, "views": 2},
    },
}
"""What is changed in a small run -> its keys."""


def main(
    whole: Annotated[bool, typer.Option(help="The default run, too: some minutes.")] = False,
) -> None:
    """Print the hash of the final weights of a run per network, neuron and way of training."""
    for name, groups in runs():
        print(f"{_hash(groups)}  {name}", flush=True)
    if whole:
        print(f"{_hash({})}  the default run", flush=True)


def runs() -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Yield what a small run is about, and its keys by group."""
    ways = {
        "from the public start": {"model": {"hidden": "128,128"}},
        **{f"network {name}": {"model": {"network": name}} for name in NETWORKS},
        **{f"neuron {name}": {"model": {"neuron": name}} for name in NEURONS if name != "lif"},
        **WAYS,
    }
    yield from ((name, _merged(SMALL, groups)) for name, groups in ways.items())


def _merged(*changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for groups in changes:
        for group, keys in groups.items():
            merged.setdefault(group, {}).update(keys)
    return merged


def _hash(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Run a federation somewhere that is gone afterwards; return the hash of its weights' file."""
    before, configuration = Path.cwd(), fnl.configuration(**groups)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run = fnl.run(configuration, progress=False)
            return hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()[:16]
        finally:
            os.chdir(before)
