"""Weights of a public corpus: central training of a recipe, and where it says they come from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.central_training import Progress, train_centrally
from experiments.recipe import Recipe
from fnl.config import Config
from fnl.data.federated import Federation, prepare
from fnl.device import chosen_device, device_of
from fnl.interchange.pretrained import Origin
from fnl.runtime.determinism import one_thread
from fnl.snn.evaluation import evaluate
from fnl.snn.network import SpikingNetwork
from fnl.training.start import start_network, start_of, whole_weights
from fnl.weights import Weights, get_weights, weights_hash

_BATCH = 256


def public_clips(config: Config) -> Federation:
    """Return the clips to train on: all are one party's.

    Raises:
        FnlError: as `fnl.data.federated.prepare`.
    """
    chosen_device(config)  # a GPU that is not there is seen before any clip
    data = config.data.model_copy(update={"clients": 1, "partitioner": "iid"})
    return prepare(config.model_copy(update={"data": data}), progress=True)


def train_teacher(
    recipe: Recipe, federation: Federation, *, progress: Progress | None = None
) -> tuple[Weights, Origin]:
    """Return the weights that central training ends with, and where they come from.

    Training begins with `model.initial` where the recipe's configuration names it, and moves
    `training.trained` alone; the seed is `run.seed`.

    Raises:
        ConfigError: if `model.initial` does not fit.
    """
    config = recipe.config
    network = start_network(config, federation).to(chosen_device(config))
    before = start_of(config, federation).origin
    clips = federation.split_clips("train")
    with one_thread():
        train_centrally(network, *clips, recipe.training, config.run.seed, progress=progress)
        _fit_standard(network, clips[0])
        tested = evaluate(
            network, *federation.split_clips(config.evaluation.split), federation.classes
        )
    weights = whole_weights(config, federation, get_weights(network))
    origin = Origin.of(
        config,
        list(federation.store.labels),
        {f"central.{key}": value for key, value in recipe.training.model_dump().items()},
        clips=len(clips[1]),
        accuracy=tested.accuracy,
        split=config.evaluation.split,
        before=before,
        sha256=weights_hash(weights),
    )
    return weights, origin


@torch.no_grad()
def _fit_standard(network: nn.Module, features: Tensor) -> None:
    """Fit what `model.standardise` adds to a network's read-out to the clips [n, T, F].

    From then on that counts as learned, whatever `training.trained` says.
    """
    if isinstance(network, SpikingNetwork) and network.readout.standard is not None:
        network.eval()
        device = device_of(network)
        batches = features.split(_BATCH)
        traces = (network.trace(one.to(device), membranes=False) for one in batches)
        network.readout.fit_standard(trace.signals[-1] for trace in traces)
        network.readout.standard.requires_grad_(True)
