"""What the rest of the program knows of networks: build one, give it its first weights, run it."""

from fnl.snn.networks.initial import initialise
from fnl.snn.networks.registry import build_network, own_keys
from fnl.snn.networks.stack import SpikingNetwork, Trace, drawing_layers, set_draws
from fnl.snn.networks.watch import spike_trains, spiking_layers, tracer

__all__ = [
    "SpikingNetwork",
    "Trace",
    "build_network",
    "drawing_layers",
    "initialise",
    "own_keys",
    "set_draws",
    "spike_trains",
    "spiking_layers",
    "tracer",
]
