"""A network as snnTorch's tutorials write it, trained in a private federation.

    python examples/plain_snntorch.py

It trains on synthetic keywords for a few rounds, and prints ε, accuracy and the rates of its
layers. `plain` at the end is all that the federation asks of a network.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import snntorch as snn
import torch
from torch import Tensor, nn

from fnl.config import ModelGroup, parse_config
from fnl.data.federated import prepare
from fnl.runtime.events import Event, RunStarted
from fnl.runtime.in_process import run_in_process
from fnl.runtime.run_record import read_run

SETTINGS = {
    "model.network": "plain_snntorch:plain",
    "data.clients": 4,
    "data.speakers": 20,
    "data.clips-per-word": 2,
    "data.frame-hop-ms": 50,
    "training.batch-size": 40,
    "coordination.candidates": 4,
    "coordination.selected": 2,
    "privacy.epsilon": 8.0,
    "run.rounds": 3,
}


class Plain(nn.Module):
    """fc1 → Leaky → fc2 → Leaky, with a time loop of its own."""

    def __init__(self, inputs: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.lif1 = snn.Leaky(beta=0.9, learn_beta=True)
        self.fc2 = nn.Linear(hidden, classes)
        self.lif2 = snn.Leaky(beta=0.9)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits [B, C]: mean membranes of the last layer, of clips [B, T, F]."""
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        membranes = []
        for step in clips.unbind(1):
            spikes, mem1 = self.lif1(self.fc1(step), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            membranes.append(mem2)
        return torch.stack(membranes).mean(0)


def plain(model: ModelGroup, inputs: int, classes: int) -> nn.Module:
    """Return the network for `inputs` features a step; it makes no use of `model`."""
    del model
    return Plain(inputs, classes)


def main(**settings: bool | int | float | str) -> Path:
    """Run the federation, print what came of it, and return its directory."""
    sys.path.append(str(Path(__file__).parent))  # where this module is found by its name
    config = parse_config({**SETTINGS, **settings})
    prepare(config, progress=False)
    events: list[Event] = []
    run_in_process(
        "server.app:app", "clients.app:app",
        clients=config.data.clients, run_config=config.flat(), notify=events.append,
    )  # fmt: skip
    directory = next(event.directory for event in events if isinstance(event, RunStarted))
    last = pl.read_parquet(directory / "rounds.parquet").row(-1, named=True)
    print(f"epsilon {last['epsilon_max']:.2f}, accuracy {last['accuracy']:.3f} (synthetic clips)")
    layers = pl.read_parquet(directory / "layers.parquet")
    final = layers.filter(pl.col("partition").is_null(), pl.col("round") == last["round"])
    names = read_run(directory)["layers"]
    for name, rate in zip(names, final["firing_rate"], strict=True):  # type: ignore[arg-type]
        print(f"{name}: {rate:.3f} spikes a neuron and step")
    return directory


if __name__ == "__main__":
    main()
