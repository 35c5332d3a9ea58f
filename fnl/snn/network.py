"""What the rest of the program knows of networks: build one, give it its first weights, run it."""

from fnl.config import NETWORKS, ModelGroup
from fnl.errors import ConfigError
from fnl.import_path import builder_of
from fnl.snn.networks.initial import initialise
from fnl.snn.networks.stack import SpikingNetwork, Trace, drawing_layers, set_draws

__all__ = [
    "SpikingNetwork",
    "Trace",
    "build_network",
    "drawing_layers",
    "initialise",
    "set_draws",
]


def build_network(model: ModelGroup, inputs: int, classes: int) -> SpikingNetwork:
    """Return the network that `model` describes, for [B, T, `inputs`] and `classes` labels.

    Raises:
        ConfigError: if it names a builder of the user's own that cannot be imported, or that
            returns something else.
    """
    network = builder_of("model.network", model.network, NETWORKS)(model, inputs, classes)
    if not isinstance(network, SpikingNetwork):
        raise ConfigError(
            f"model.network = {model.network!r} returned a {type(network).__name__}: "
            "a network is a fnl.snn.network.SpikingNetwork"
        )
    return network
