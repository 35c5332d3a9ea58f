"""What a run starts from, on server, client, device and in an audit alike.

The first weights are drawn from the run's seed or taken from public ones (`model.initial`). What
`training.trained` leaves out stays as it is there, wherever the run is: everybody who builds the
network puts it in, and nobody sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np
from torch import nn

from fnl.config import Config
from fnl.config.public_starts import READOUT_LAYERS
from fnl.data.federated import Federation
from fnl.device import chosen_device
from fnl.errors import ConfigError
from fnl.interchange.pretrained import Origin, initial_file, load_initial
from fnl.snn.network import build_network, initialise
from fnl.weights import Weights, get_weights, set_weights, view_weights

_READOUT = "readout."
_STANDARD = "readout.standard."  # a number a neuron, not a label


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from, of everything that its network can learn.

    Attributes:
        weights: by name.
        origin: where they come from; None if drawn from the seed.
        drawn: labels whose row of the read-out was drawn all the same: the origin has none.
    """

    weights: Weights
    origin: Origin | None = None
    drawn: tuple[str, ...] = ()


def check_initial(config: Config) -> None:
    """Refuse, before any clip is read, a `model.initial` that does not fit the run.

    Raises:
        ConfigError: naming what.
    """
    if config.model.initial:
        load_initial(config)


def start_warnings(config: Config) -> list[str]:
    """Return what a run says of its start because it is hardly what was meant."""
    trained = config.training.trained
    if config.model.initial or trained == "all":
        return []
    return [
        f"model.initial is empty and training.trained = {trained!r}: what is not trained stays as "
        "it was drawn; training.trained=all trains all"
    ]


def start_of(config: Config, federation: Federation) -> Start:
    """Return what the run of `config` starts from.

    Raises:
        ConfigError: if `model.initial` does not fit, naming what.
    """
    initial = config.model.initial
    stamp = initial_file(config).stat().st_mtime_ns if initial else 0
    return _start(config, federation.inputs, federation.store.labels, stamp)


def start_network(config: Config, federation: Federation) -> nn.Module:
    """Return the network as the run starts: what is not trained asks for no gradient.

    Raises:
        ConfigError: as `start_of`; if `training.trained` names no parameter.
    """
    network = build_network(
        config.model, federation.inputs, federation.classes, seed=config.run.seed
    )
    set_weights(network, start_of(config, federation).weights)
    freeze(network, config.training.trained)
    return network


def network_of(config: Config, federation: Federation, weights: Weights) -> nn.Module:
    """Return the network with `weights`, of what is trained; the rest as the run starts.

    It lies where `run.device` says.

    Raises:
        ConfigError: as `start_network`.
        ValueError: if the weights do not fit.
    """
    if config.training.trained == "all":
        network = build_network(
            config.model, federation.inputs, federation.classes, seed=config.run.seed
        )
    else:
        network = start_network(config, federation)
    set_weights(network, weights)
    return network.to(chosen_device(config))


def whole_weights(config: Config, federation: Federation, weights: Weights) -> Weights:
    """Return all that the network can learn: `weights`, and beside them what is not trained."""
    if config.training.trained == "all":
        return weights
    return {**start_of(config, federation).weights, **weights}


def freeze(network: nn.Module, trained: str) -> None:
    """Let only the parameters that `trained` names ask for a gradient.

    Raises:
        ConfigError: if a part of it names no parameter that can learn.
    """
    if trained == "all":
        return
    names, patterns = list(view_weights(network)), trained.split("+")
    for pattern in patterns:
        if not any(_names(pattern, name) for name in names):
            raise ConfigError(
                f"training.trained = {trained!r}: {pattern!r} is the beginning of no parameter; "
                f"there are {', '.join(names)}"
            )
    for name, parameter in network.named_parameters():
        if not any(_names(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)


def _names(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


@lru_cache(maxsize=4)
def _start(config: Config, inputs: int, labels: tuple[str, ...], _stamp: int) -> Start:
    network = build_network(config.model, inputs, len(labels), seed=config.run.seed)
    initialise(network, config.run.seed)
    drawn = get_weights(network)
    if not (name := config.model.initial):
        return Start(drawn)
    weights, origin = load_initial(config)
    weights = dict(weights)  # whoever reads the file next has its own
    if (names := sorted(drawn.keys() ^ weights.keys())) != []:
        raise ConfigError(f"model.initial = {name!r} has other parameters than the run: {names}")
    if origin.network.get(READOUT_LAYERS, "last") != config.model.readout_layers:
        weights |= {key: own for key, own in drawn.items() if key.startswith(_READOUT)}
        return Start(_fitting(drawn, weights, name), origin, labels)
    for key, own in drawn.items():
        theirs = weights[key]
        of_labels = key.startswith(_READOUT) and not key.startswith(_STANDARD)
        if of_labels and own.shape[:1] == (len(labels),):
            weights[key] = _rows_by_label(own, theirs, labels, origin.words)
    unknown = tuple(label for label in labels if label not in origin.words)
    return Start(_fitting(drawn, weights, name), origin, unknown)


def _fitting(drawn: Weights, weights: Weights, name: str) -> Weights:
    """Return `weights` in the order of those that were drawn.

    Raises:
        ConfigError: naming the first of another shape.
    """
    for key, own in drawn.items():
        if weights[key].shape != own.shape:
            raise ConfigError(
                f"model.initial = {name!r} does not fit: {key} has the shape "
                f"{list(weights[key].shape)} there, {list(own.shape)} in this run"
            )
    return {key: weights[key] for key in drawn}


def _rows_by_label(
    own: np.ndarray, theirs: np.ndarray, labels: Sequence[str], words: Sequence[str]
) -> np.ndarray:
    """Return the read-out's rows of `labels`: theirs where they know the label, else drawn."""
    if theirs.shape != (len(words), *own.shape[1:]):
        return theirs
    rows = own.copy()
    for row, label in enumerate(labels):
        if label in words:
            rows[row] = theirs[words.index(label)]
    return rows
