"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378): control variates against client drift.

    python examples/scaffold.py

Every client corrects its gradients by c − c_k, what all clients' steps have been less what its own
have been. Both are computed by the server from models that it is sent, so they cost no privacy.
The class is all there is to it; the rest runs it in a private federation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import fnl
from fnl.errors import ConfigError


@dataclass(frozen=True)
class Scaffold(fnl.Algorithm):
    """Algorithm 1 with option II. Its option is the server's step size η_g."""

    rate: float = 1.0

    reads = ("partition", "num_examples", "models")

    def check(self, config):
        """Refuse optimizers whose steps are no plain sums of gradients."""
        training = config.training
        if training.optimizer != "sgd" or training.momentum or training.proximal_mu:
            raise ConfigError(
                "SCAFFOLD needs training.optimizer = 'sgd', training.momentum = 0 and "
                "training.proximal-mu = 0"
            )

    def start(self, weights, config):
        """Return c = 0 and, of all N clients, c_k = 0."""
        clients = config.data.clients
        return {f"all/{name}": np.zeros_like(value) for name, value in weights.items()} | {
            f"own/{name}": np.zeros((clients, *value.shape), np.float32)
            for name, value in weights.items()
        }

    def correction(self, state, partition):
        """Return c − c_k."""
        names = [name.removeprefix("all/") for name in state if name.startswith("all/")]
        return {name: state[f"all/{name}"] - state[f"own/{name}"][partition] for name in names}

    def weigh(self, reports: Sequence[fnl.ClientReport], context):
        """Weigh all alike, however many clips they have."""
        del context
        return np.ones(len(reports))

    def step(self, taken: fnl.Taken) -> fnl.Stepped:
        """Return x + η_g mean(y_k − x), c + Σ Δc_k/N and c_k⁺ = c_k − c + (x − y_k)/(K η_k)."""
        state, weights = dict(taken.context.state), {}
        plans = [taken.plan(report) for report in taken.reports]
        updates = taken.updates
        for name, before in taken.before.items():
            everybody, own = state[f"all/{name}"], state[f"own/{name}"].copy()
            change = np.zeros_like(everybody)
            for report, plan, update in zip(taken.reports, plans, updates, strict=True):
                per_step = np.float32(plan.steps * plan.learning_rate)
                new = own[report.partition] - everybody - update[name] / per_step
                change += new - own[report.partition]
                own[report.partition] = new
            state[f"all/{name}"] = everybody + change / np.float32(len(own))
            state[f"own/{name}"] = own
            weights[name] = before + np.float32(self.rate) * (taken.aggregate[name] - before)
        return fnl.Stepped(weights, state)


def main() -> None:
    """Run ten rounds and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    run = fnl.run(
        data={"clients": 4, "speakers": 40, "clips_per_word": 2, "frame_hop_ms": 50},
        training={"optimizer": "sgd", "learning_rate": 0.5, "batch_size": 40},
        coordination={
            "candidates": 3,
            "selected": 3,
            "selection": "random",
            "algorithm": Scaffold,
            "options": {"rate": 1.0},
        },
        run={"rounds": parser.parse_args().rounds},
    )
    print(f"accuracy {run.accuracy:.3f} (synthetic clips), ε = {run.epsilon:.2f}")
    print(run.privacy["caveat"])


if __name__ == "__main__":
    main()
