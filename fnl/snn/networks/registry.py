"""Networks by the name a configuration uses."""

from __future__ import annotations

from collections.abc import Callable

from fnl.config import ModelGroup
from fnl.errors import ConfigError
from fnl.import_path import imported
from fnl.snn.networks.conv import conv
from fnl.snn.networks.delays import delays
from fnl.snn.networks.dense import dense
from fnl.snn.networks.stack import SpikingNetwork
from fnl.snn.networks.temporal_conv import temporal_conv

NetworkBuilder = Callable[[ModelGroup, int, int], SpikingNetwork]
"""Makes a network from the model, the features of a step, and the number of labels."""

NETWORKS: dict[str, NetworkBuilder] = {
    "feedforward": dense,
    "recurrent": dense,
    "temporal-conv": temporal_conv,
    "conv": conv,
    "delays": delays,
}
"""Networks by name; `fnl.config.NETWORKS` lists the same names."""


def build_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return the network that `model` describes, for [B, T, `inputs`] and `classes` labels.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported, or that
            returns something else.
    """
    builder = NETWORKS.get(model.network) or imported("model.network", model.network)
    network = builder(model, inputs, classes)
    if not isinstance(network, SpikingNetwork):
        raise ConfigError(
            f"model.network = {model.network!r} returned a {type(network).__name__}: "
            "a network is a fnl.snn.network.SpikingNetwork"
        )
    return network
