"""The network that a configuration names."""

from __future__ import annotations

from collections.abc import Callable

from fnl.config import NETWORKS, ModelGroup
from fnl.errors import ConfigError
from fnl.import_path import builder_of
from fnl.snn.networks.stack import SpikingNetwork

NetworkBuilder = Callable[[ModelGroup, int, int], SpikingNetwork]
"""Makes a network from the model, the features of a step, and the number of labels."""


def build_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return the network that `model` describes, for [B, T, `inputs`] and `classes` labels.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported, or that
            returns something else.
    """
    builder: NetworkBuilder = builder_of("model.network", model.network, NETWORKS)
    network = builder(model, inputs, classes)
    if not isinstance(network, SpikingNetwork):
        raise ConfigError(
            f"model.network = {model.network!r} returned a {type(network).__name__}: "
            "a network is a fnl.snn.network.SpikingNetwork"
        )
    return network
