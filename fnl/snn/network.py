"""What the rest of the program knows of networks: build one, give it its first weights, run it."""

from fnl.snn.networks.initial import initialise
from fnl.snn.networks.registry import build_network
from fnl.snn.networks.stack import SpikingNetwork, Trace, drawing_layers, set_draws

__all__ = [
    "SpikingNetwork",
    "Trace",
    "build_network",
    "drawing_layers",
    "initialise",
    "set_draws",
]
