"""A network as snnTorch's tutorials write it, trained in a private federation.

    python examples/plain_snntorch.py

It trains on synthetic keywords, and prints accuracy, ε and the firing rates of its layers. `plain`
is all that the federation asks of a network.
"""

from __future__ import annotations

import argparse

import polars as pl
import snntorch as snn
import torch
from torch import Tensor, nn

import fnl


class Plain(nn.Module):
    """fc1 → Leaky → fc2 → Leaky, with a time loop of its own and a trained decay."""

    def __init__(self, inputs: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.lif1 = snn.Leaky(beta=0.9, learn_beta=True)
        self.fc2 = nn.Linear(hidden, classes)
        self.lif2 = snn.Leaky(beta=0.9)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits [B, C], mean membranes of the last layer, of clips [B, T, F]."""
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        membranes = []
        for step in clips.unbind(1):
            spikes, mem1 = self.lif1(self.fc1(step), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            membranes.append(mem2)
        return torch.stack(membranes).mean(0)


def plain(_model: object, inputs: int, classes: int) -> nn.Module:
    """Return the network for so many features a step and labels."""
    return Plain(inputs, classes)


def main() -> None:
    """Run ten rounds and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    run = fnl.run(
        data={"clients": 4, "speakers": 40, "clips_per_word": 2, "frame_hop_ms": 50},
        model={"network": plain},
        training={"batch_size": 40},
        coordination={"candidates": 4, "selected": 2},
        run={"rounds": parser.parse_args().rounds},
    )
    print(f"accuracy {run.accuracy:.3f} (synthetic clips), ε = {run.epsilon:.2f}")
    last = run.layers.filter(
        pl.col("partition").is_null(), pl.col("round") == pl.col("round").max()
    )
    for layer, rate in last.select("layer", "firing_rate").rows():
        print(f"layer {layer}: {rate:.3f} spikes a neuron and step")


if __name__ == "__main__":
    main()
